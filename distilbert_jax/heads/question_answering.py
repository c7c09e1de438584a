"""Where an answer starts and ends in the text."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from distilbert_jax.heads.common import classify
from distilbert_jax.models.transformer import HeadConfig, Transformer, TransformerConfig
from distilbert_jax.types import Batch, Outputs, RowKeys


class QuestionAnswering(nn.Module):
    """Scores [b 2 t]: of every token as the first of the answer, and as its last."""

    cfg: TransformerConfig
    head: HeadConfig

    @nn.compact
    def __call__(self, batch: Batch, *, keys: RowKeys | None = None) -> Outputs:
        outputs = Transformer(self.cfg, name="encoder")(batch, keys=keys)
        scores = classify(self.cfg, self.head, outputs.hidden[-1], into=2, keys=keys)
        return dataclasses.replace(outputs, scores=jnp.swapaxes(scores, 1, 2))
