"""Dropout whose mask depends on the row's own key only: batch size, accumulation and devices change nothing."""

import math

import jax
import jax.numpy as jnp
from jax.extend.random import threefry_2x32
from jaxtyping import Array, Float, Key, UInt16

from distilbert_jax.types import RowKeys

NUM_UINT16 = 2**16  # a uint16 a value


def fold_keys(keys: RowKeys | None, site: int) -> RowKeys | None:
    """The keys of one place in the model: a layer, or a dropout in it."""
    return None if keys is None else jax.vmap(jax.random.fold_in, (0, None))(keys, site)


def apply_dropout(x: Float[Array, "b ..."], keys: RowKeys | None, *, rate: float, site: int) -> Float[Array, "b ..."]:
    """`x` with a share `rate` of its values set to 0 and the others scaled up (Srivastava et al., 2014). No keys:
    evaluation, `x` as it is.
    """
    if keys is None or rate == 0.0:
        return x
    cut = round(rate * NUM_UINT16)
    bits = jax.vmap(lambda key: random_uint16(key, x.shape[1:]))(fold_keys(keys, site))
    return jnp.where(bits >= cut, x * (NUM_UINT16 / (NUM_UINT16 - cut)), 0).astype(x.dtype)


def random_uint16(key: Key[Array, ""], shape: tuple[int, ...]) -> UInt16[Array, "..."]:
    """Random bits of one row, four values from each block of threefry (Salmon et al., 2011). `jax.random.bits` makes a
    block a value, so that any axis may be sharded; here the first may, the heads of attention: each has its own.
    """
    first, size = shape[0], math.prod(shape[1:])
    counts = jnp.arange(first * -(-size // 2), dtype=jnp.uint32).reshape(first, -1)
    words = jax.vmap(lambda counts: threefry_2x32(jax.random.key_data(key), counts))(counts)
    return jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(first, -1)[:, :size].reshape(shape)
