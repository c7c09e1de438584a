"""A tag for each token."""

import dataclasses

import flax.linen as nn

from distilbert_jax.heads.common import output_logits
from distilbert_jax.models.transformer import HeadConfig, Transformer, TransformerConfig
from distilbert_jax.types import Batch, ModelOutputs, RowKeys


class TokenClassification(nn.Module):
    """Scores [b t v] of v tags."""

    config: TransformerConfig
    head: HeadConfig

    @nn.compact
    def __call__(self, batch: Batch, *, keys: RowKeys | None = None) -> ModelOutputs:
        outputs = Transformer(self.config, name="encoder")(batch, keys=keys)
        scores = output_logits(
            self.config, self.head, outputs.hidden_at_predictions, num_outputs=len(self.head.labels), keys=keys
        )
        return dataclasses.replace(outputs, logits=scores)
