"""Dropout whose mask depends on the row's own key only: batch size, accumulation and devices change nothing."""

import math

import jax
import jax.numpy as jnp
from jax.extend.random import threefry_2x32
from jaxtyping import Array, Float, Key, UInt16

from distilbert_jax.types import RowKeys

STEPS = 2**16  # a uint16 a value


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
    bits = jax.vmap(lambda key: uint16s(key, x.shape[1:]))(fold(keys, site))
    return jnp.where(bits >= cut, x * (STEPS / (STEPS - cut)), 0).astype(x.dtype)


def uint16s(key: Key[Array, ""], shape: tuple[int, ...]) -> UInt16[Array, "..."]:
    """Random bits of one row, four values from each block of threefry (Salmon et al., 2011). `jax.random.bits` makes a
    block a value, so that any axis may be sharded; here the first may, the heads of attention: each has its own.
    """
    first, size = shape[0], math.prod(shape[1:])
    counts = jnp.arange(first * -(-size // 2), dtype=jnp.uint32).reshape(first, -1)
    words = jax.vmap(lambda counts: threefry_2x32(jax.random.key_data(key), counts))(counts)
    return jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(first, -1)[:, :size].reshape(shape)
