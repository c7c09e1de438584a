"""The head of multiple choice: which of several answers or continuations fits best."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from distilbert_jax.heads.common import output_logits, pool_cls
from distilbert_jax.models.transformer import HeadConfig, Transformer, TransformerConfig
from distilbert_jax.types import Batch, ModelOutputs, RowKeys


class MultipleChoice(nn.Module):
    """The encoder with logits [b, 1, c] for c choices.

    Every choice is a document of its own, and all are packed into one row. Its logit is computed from its [CLS] token,
    at one of `batch.predict_positions`.
    """

    config: TransformerConfig
    head: HeadConfig

    @nn.compact
    def __call__(self, batch: Batch, *, keys: RowKeys | None = None) -> ModelOutputs:
        """Returns the outputs of the model. Dropout is applied if `keys` are given, one for each row."""
        outputs = Transformer(self.config, name="encoder")(batch, keys=keys)
        x = pool_cls(self.config, self.head, outputs.hidden_at_predictions)
        logits = output_logits(self.config, self.head, x, num_outputs=1, keys=keys)
        return dataclasses.replace(outputs, logits=jnp.swapaxes(logits, 1, 2))
