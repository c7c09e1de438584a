"""Scaled dot-product attention (Vaswani et al., 2017) among the tokens of one packed document."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from distilbert_jax.models.dropout import apply_dropout
from distilbert_jax.models.matmul import einsum
from distilbert_jax.types import RowKeys

PROBABILITIES_SITE = 0  # the dropout site
AttentionKernel = Literal["xla", "cudnn"]
"""Who computes it: XLA, with [b h t t] probabilities in memory; or cuDNN's fused kernel, which keeps none, knows no
dropout, and runs on NVIDIA GPUs in 16 bits. `models/attention_kernel.py` chooses.
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
    """softmax(q·k / √k)·v, the softmax in float32. With keys, dropout falls on the probabilities, as in BERT.

    A token that sees nobody (padding) gets the plain mean of `v`: finite, and read by no loss. ValueError for dropout
    with a kernel that applies none.
    """
    if kernel == "cudnn":
        if keys is not None and dropout:
            raise ValueError(f"cuDNN's attention applies no dropout, and attention_dropout is {dropout}")
        return jax.nn.dot_product_attention(q, k, v, mask=attention_mask[:, None], implementation="cudnn")
    scores = einsum("bthk,buhk->bhtu", q, k, q.dtype) * q.shape[-1] ** -0.5
    probabilities = jax.nn.softmax(jnp.where(attention_mask[:, None], scores, jnp.finfo(scores.dtype).min))
    probabilities = apply_dropout(probabilities, keys, rate=dropout, site=PROBABILITIES_SITE)
    return einsum("bhtu,buhk->bthk", probabilities, v, v.dtype).astype(v.dtype)


def segment_mask(segments: Int[Array, "b t"]) -> Bool[Array, "b t t"]:
    """Who attends to whom: tokens to those of their own document. 0 is padding."""
    return (segments[:, :, None] == segments[:, None, :]) & (segments > 0)[:, None]
