"""What the heads of classes, tags, spans and choices share: dropout, and the layer that gives the scores."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from distilbert_jax.models.dropout import drop
from distilbert_jax.models.transformer import HeadConfig, TransformerConfig, dense
from distilbert_jax.types import RowKeys

OUTPUT = 2_000  # the dropout site


def summarize(cfg: TransformerConfig, head: HeadConfig, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
    """A dense layer and its activation on [CLS]; to be called within a module."""
    x = dense(cfg, cfg.hidden_size, name="summary")(x)
    return nn.tanh(x) if head.summary == "tanh" else nn.relu(x)


def classify(
    cfg: TransformerConfig, head: HeadConfig, x: Float[Array, "b n d"], *, into: int, keys: RowKeys | None
) -> Float[Array, "b n into"]:
    """Dropout and the output layer, scores in float32; to be called within a module."""
    x = drop(x, keys, rate=head.dropout, site=OUTPUT)
    return dense(cfg, into, name="classifier")(x).astype(jnp.float32)
