"""The class of a text, several classes at once, or a number."""

import dataclasses

import flax.linen as nn

from distilbert_jax.heads.common import output_logits, pool_cls
from distilbert_jax.models.transformer import HeadConfig, Transformer, TransformerConfig
from distilbert_jax.types import Batch, ModelOutputs, RowKeys


class SequenceClassification(nn.Module):
    """Scores [b 1 v] from [CLS], which `batch.predict_positions` points to: v classes, or numbers."""

    config: TransformerConfig
    head: HeadConfig

    @nn.compact
    def __call__(self, batch: Batch, *, keys: RowKeys | None = None) -> ModelOutputs:
        outputs = Transformer(self.config, name="encoder")(batch, keys=keys)
        x = pool_cls(self.config, self.head, outputs.hidden_at_predictions)
        scores = output_logits(self.config, self.head, x, num_outputs=len(self.head.labels), keys=keys)
        return dataclasses.replace(outputs, logits=scores)
