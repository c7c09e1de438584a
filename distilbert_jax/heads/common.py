"""The layers that the heads of fine-tuning tasks share. Call these functions within a Flax module."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from distilbert_jax.models.dropout import apply_dropout
from distilbert_jax.models.transformer import HeadConfig, TransformerConfig, dense
from distilbert_jax.types import RowKeys

OUTPUT_LAYER_SITE = 2_000  # number of the dropout site; see the others in models/transformer.py


def pool_cls(config: TransformerConfig, head: HeadConfig, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
    """Returns the pooled [CLS] tokens: a dense layer, then tanh or ReLU."""
    x = dense(config, config.hidden_size, name="summary")(x)
    return nn.tanh(x) if head.pooler_activation == "tanh" else nn.relu(x)


def output_logits(
    config: TransformerConfig, head: HeadConfig, x: Float[Array, "b n d"], *, num_outputs: int, keys: RowKeys | None
) -> Float[Array, "b n outputs"]:
    """Returns the logits in float32: dropout, then the output layer."""
    x = apply_dropout(x, keys, rate=head.dropout, site=OUTPUT_LAYER_SITE)
    return dense(config, num_outputs, name="classifier")(x).astype(jnp.float32)
