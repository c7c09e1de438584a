"""Which of several choices goes on best: each is a document of its own, packed into one row."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from distilbert_jax.heads.common import classify, summarize
from distilbert_jax.models.transformer import HeadConfig, Transformer, TransformerConfig
from distilbert_jax.types import Batch, Outputs, RowKeys


class MultipleChoice(nn.Module):
    """Scores [b 1 c] of c choices, from the [CLS] of each, which `batch.predict_at` points to."""

    cfg: TransformerConfig
    head: HeadConfig

    @nn.compact
    def __call__(self, batch: Batch, *, keys: RowKeys | None = None) -> Outputs:
        outputs = Transformer(self.cfg, name="encoder")(batch, keys=keys)
        x = summarize(self.cfg, self.head, outputs.at_places)
        scores = classify(self.cfg, self.head, x, into=1, keys=keys)
        return dataclasses.replace(outputs, scores=jnp.swapaxes(scores, 1, 2))
