"""The head of extractive question answering: where the answer starts and ends in the text."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from distilbert_jax.heads.common import output_logits
from distilbert_jax.models.transformer import HeadConfig, Transformer, TransformerConfig
from distilbert_jax.types import Batch, ModelOutputs, RowKeys


class QuestionAnswering(nn.Module):
    """The encoder with logits [b, 2, t]: of each token as the first one of the answer, and as the last one."""

    config: TransformerConfig
    head: HeadConfig

    @nn.compact
    def __call__(self, batch: Batch, *, keys: RowKeys | None = None) -> ModelOutputs:
        """Returns the outputs of the model. Dropout is applied if `keys` are given, one for each row."""
        outputs = Transformer(self.config, name="encoder")(batch, keys=keys)
        logits = output_logits(self.config, self.head, outputs.hidden_states[-1], num_outputs=2, keys=keys)
        return dataclasses.replace(outputs, logits=jnp.swapaxes(logits, 1, 2))
