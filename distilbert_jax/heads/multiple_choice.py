"""Which of several choices goes on best: each is a document of its own, packed into one row."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from distilbert_jax.heads.common import output_logits, pool_cls
from distilbert_jax.models.transformer import HeadConfig, Transformer, TransformerConfig
from distilbert_jax.types import Batch, ModelOutputs, RowKeys


class MultipleChoice(nn.Module):
    """Scores [b 1 c] of c choices, from the [CLS] of each, which `batch.predict_positions` points to."""

    config: TransformerConfig
    head: HeadConfig

    @nn.compact
    def __call__(self, batch: Batch, *, keys: RowKeys | None = None) -> ModelOutputs:
        outputs = Transformer(self.config, name="encoder")(batch, keys=keys)
        x = pool_cls(self.config, self.head, outputs.hidden_at_predictions)
        scores = output_logits(self.config, self.head, x, num_outputs=1, keys=keys)
        return dataclasses.replace(outputs, logits=jnp.swapaxes(scores, 1, 2))
