"""The head of tasks with one result for a text: classification with one or several labels, and regression."""

import dataclasses

import flax.linen as nn

from distilbert_jax.heads.common import output_logits, pool_cls
from distilbert_jax.models.transformer import HeadConfig, Transformer, TransformerConfig
from distilbert_jax.types import Batch, ModelOutputs, RowKeys


class SequenceClassification(nn.Module):
    """The encoder with logits [b, 1, v] for v classes, or v numbers.

    They are computed from the [CLS] token, at `batch.predict_positions`.
    """

    config: TransformerConfig
    head: HeadConfig

    @nn.compact
    def __call__(self, batch: Batch, *, keys: RowKeys | None = None) -> ModelOutputs:
        """Returns the outputs of the model. Dropout is applied if `keys` are given, one for each row."""
        outputs = Transformer(self.config, name="encoder")(batch, keys=keys)
        x = pool_cls(self.config, self.head, outputs.hidden_at_predictions)
        logits = output_logits(self.config, self.head, x, num_outputs=len(self.head.labels), keys=keys)
        return dataclasses.replace(outputs, logits=logits)
