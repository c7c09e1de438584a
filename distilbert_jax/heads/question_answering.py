"""Where an answer starts and ends in the text."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from distilbert_jax.heads.common import output_logits
from distilbert_jax.models.transformer import HeadConfig, Transformer, TransformerConfig
from distilbert_jax.types import Batch, ModelOutputs, RowKeys


class QuestionAnswering(nn.Module):
    """Scores [b 2 t]: of every token as the first of the answer, and as its last."""

    config: TransformerConfig
    head: HeadConfig

    @nn.compact
    def __call__(self, batch: Batch, *, keys: RowKeys | None = None) -> ModelOutputs:
        outputs = Transformer(self.config, name="encoder")(batch, keys=keys)
        scores = output_logits(self.config, self.head, outputs.hidden_states[-1], num_outputs=2, keys=keys)
        return dataclasses.replace(outputs, logits=jnp.swapaxes(scores, 1, 2))
