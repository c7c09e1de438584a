"""Computes scaled dot-product attention (Vaswani et al., 2017) within each packed document."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from distilbert_jax.models.dropout import apply_dropout
from distilbert_jax.models.matmul import einsum
from distilbert_jax.types import RowKeys

PROBABILITIES_SITE = 0  # number of the dropout site; see the others in models/transformer.py
AttentionKernel = Literal["xla", "cudnn"]
"""What computes attention. "xla" is the code below, with the probabilities, [b, h, t, t], in memory. "cudnn" is a fused
kernel that does not store the probabilities and has no dropout; it runs on NVIDIA GPUs in bfloat16 and float16.
`models/attention_kernel.py` chooses between them.
"""


def attend(
    q: Float[Array, "b t h k"],
    k: Float[Array, "b t h k"],
    v: Float[Array, "b t h k"],
    attention_mask: Bool[Array, "b t t"],
    *,
    keys: RowKeys | None,
    dropout: float,
    kernel: AttentionKernel = "xla",
) -> Float[Array, "b t h k"]:
    """Returns softmax(q kᵀ / √(head size)) v, with the softmax in float32.

    A padding token may attend to no token. Its result is the mean of all values, which is finite and which no loss
    reads.

    Args:
        q: queries.
        k: keys.
        v: values.
        attention_mask: True where a query (first t) may attend to a key (second t).
        keys: the random keys of the rows, or None for no dropout.
        dropout: the rate of dropout on the probabilities.
        kernel: what computes the result.

    Raises:
        ValueError: `kernel` is "cudnn" and dropout is asked for.
    """
    if kernel == "cudnn":
        if keys is not None and dropout:
            raise ValueError(
                f"cuDNN's attention kernel has no dropout, but attention_dropout is {dropout}. Set "
                "attention='xla' or attention_dropout=0 in the TransformerConfig."
            )
        return jax.nn.dot_product_attention(q, k, v, mask=attention_mask[:, None], implementation="cudnn")
    scores = einsum("bthk,buhk->bhtu", q, k, q.dtype) * q.shape[-1] ** -0.5
    probabilities = jax.nn.softmax(jnp.where(attention_mask[:, None], scores, jnp.finfo(scores.dtype).min))
    probabilities = apply_dropout(probabilities, keys, rate=dropout, site=PROBABILITIES_SITE)
    return einsum("bhtu,buhk->bthk", probabilities, v, v.dtype).astype(v.dtype)


def segment_mask(segment_ids: Int[Array, "b t"]) -> Bool[Array, "b t t"]:
    """Returns the attention mask: a token may attend to the tokens of its own document, and never to padding.

    Args:
        segment_ids: the number of each token's document in its row, and 0 for padding.
    """
    return (segment_ids[:, :, None] == segment_ids[:, None, :]) & (segment_ids > 0)[:, None]
