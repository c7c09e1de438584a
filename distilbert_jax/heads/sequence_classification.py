"""The class of a text, several classes at once, or a number."""

import dataclasses

import flax.linen as nn

from distilbert_jax.heads.common import classify, summarize
from distilbert_jax.models.transformer import HeadConfig, Transformer, TransformerConfig
from distilbert_jax.types import Batch, Outputs, RowKeys


class SequenceClassification(nn.Module):
    """Scores [b 1 v] from [CLS], which `batch.predict_at` points to: v classes, or numbers."""

    cfg: TransformerConfig
    head: HeadConfig

    @nn.compact
    def __call__(self, batch: Batch, *, keys: RowKeys | None = None) -> Outputs:
        outputs = Transformer(self.cfg, name="encoder")(batch, keys=keys)
        x = summarize(self.cfg, self.head, outputs.at_places)
        scores = classify(self.cfg, self.head, x, into=len(self.head.labels), keys=keys)
        return dataclasses.replace(outputs, scores=scores)
