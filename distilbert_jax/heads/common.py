"""What the heads of classes, tags, spans and choices share: dropout, and the layer that gives the scores."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from distilbert_jax.models.dropout import apply_dropout
from distilbert_jax.models.transformer import HeadConfig, TransformerConfig, dense
from distilbert_jax.types import RowKeys

OUTPUT_LAYER = 2_000  # the dropout site


def pool_cls(config: TransformerConfig, head: HeadConfig, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
    """A dense layer and its activation on [CLS]; to be called within a module."""
    x = dense(config, config.hidden_size, name="summary")(x)
    return nn.tanh(x) if head.pooler_activation == "tanh" else nn.relu(x)


def output_logits(
    config: TransformerConfig, head: HeadConfig, x: Float[Array, "b n d"], *, num_outputs: int, keys: RowKeys | None
) -> Float[Array, "b n into"]:
    """Dropout and the output layer, scores in float32; to be called within a module."""
    x = apply_dropout(x, keys, rate=head.dropout, site=OUTPUT_LAYER)
    return dense(config, num_outputs, name="classifier")(x).astype(jnp.float32)
