"""The masked-word head: a transform of the last hidden state, scored against the word embeddings (Devlin et al.,
2018).
"""

import dataclasses

import flax.linen as nn

from distilbert_jax.models.transformer import HeadConfig, Transformer, TransformerConfig, dense, gelu, layer_norm
from distilbert_jax.types import Batch, Outputs, RowKeys


class MaskedLM(nn.Module):
    """An encoder that answers which word stands at `batch.predict_at`."""

    cfg: TransformerConfig
    head: HeadConfig = HeadConfig()  # it has nothing to say here

    @nn.compact
    def __call__(self, batch: Batch, *, keys: RowKeys | None = None) -> Outputs:
        cfg = self.cfg
        encoder = Transformer(cfg, name="encoder")
        outputs = encoder(batch, keys=keys)
        x = gelu(cfg, dense(cfg, cfg.hidden_size, name="transform")(outputs.at_places))
        x = layer_norm(cfg, name="norm")(x)
        bias = self.param("bias", nn.initializers.zeros, (cfg.vocab_size,))
        return dataclasses.replace(outputs, scores=encoder.over_words(x, bias))
