"""Scaled dot-product attention (Vaswani et al., 2017) among the tokens of one packed document."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from distilbert_jax.models.dropout import drop
from distilbert_jax.models.products import product
from distilbert_jax.types import RowKeys

PROBABILITIES = 0  # the dropout site


def attend(
    q: Float[Array, "b t h k"],
    k: Float[Array, "b t h k"],
    v: Float[Array, "b t h k"],
    sees: Bool[Array, "b t t"],
    *,
    keys: RowKeys | None,
    dropout: float,
) -> Float[Array, "b t h k"]:
    """softmax(q·k / √k)·v, the softmax in float32. With keys, dropout falls on the probabilities, as in BERT.

    A token that sees nobody (padding) gets the plain mean of `v`: finite, and read by no loss.
    """
    scores = product("bthk,buhk->bhtu", q, k, q.dtype) * q.shape[-1] ** -0.5
    probabilities = jax.nn.softmax(jnp.where(sees[:, None], scores, jnp.finfo(scores.dtype).min))
    probabilities = drop(probabilities, keys, rate=dropout, site=PROBABILITIES)
    return product("bhtu,buhk->bthk", probabilities, v, v.dtype).astype(v.dtype)
