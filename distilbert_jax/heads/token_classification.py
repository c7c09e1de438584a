"""A tag for each token."""

import dataclasses

import flax.linen as nn

from distilbert_jax.heads.common import classify
from distilbert_jax.models.transformer import HeadConfig, Transformer, TransformerConfig
from distilbert_jax.types import Batch, Outputs, RowKeys


class TokenClassification(nn.Module):
    """Scores [b t v] of v tags."""

    cfg: TransformerConfig
    head: HeadConfig

    @nn.compact
    def __call__(self, batch: Batch, *, keys: RowKeys | None = None) -> Outputs:
        outputs = Transformer(self.cfg, name="encoder")(batch, keys=keys)
        scores = classify(self.cfg, self.head, outputs.at_places, into=len(self.head.labels), keys=keys)
        return dataclasses.replace(outputs, scores=scores)
