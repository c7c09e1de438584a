"""Dropout whose mask depends on the row's own key only: batch size, accumulation and devices change nothing."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from distilbert_jax.types import RowKeys

STEPS = 2**16  # a uint16 a value: half the random bits of a float32 draw


def fold(keys: RowKeys | None, site: int) -> RowKeys | None:
    """The keys of one place in the model: a layer, or a dropout in it."""
    return None if keys is None else jax.vmap(jax.random.fold_in, (0, None))(keys, site)


def drop(x: Float[Array, "b ..."], keys: RowKeys | None, *, rate: float, site: int) -> Float[Array, "b ..."]:
    """`x` with a share `rate` of its values set to 0 and the others scaled up (Srivastava et al., 2014). No keys:
    evaluation, `x` as it is.
    """
    if keys is None or rate == 0.0:
        return x
    cut = round(rate * STEPS)
    bits = jax.vmap(lambda key: jax.random.bits(key, x.shape[1:], jnp.uint16))(fold(keys, site))
    return jnp.where(bits >= cut, x * (STEPS / (STEPS - cut)), 0).astype(x.dtype)
