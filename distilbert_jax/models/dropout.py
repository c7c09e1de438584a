"""Applies dropout with a mask that depends on the key of each row only.

The mask of a row is therefore the same for every batch size, number of micro-batches and number of devices.
"""

import math

import jax
import jax.numpy as jnp
from jax.extend.random import threefry_2x32
from jaxtyping import Array, Float, Key, UInt16

from distilbert_jax.types import RowKeys

NUM_UINT16 = 2**16
"""How many values a uint16 has. One random uint16 decides whether a value is dropped."""


def fold_keys(keys: RowKeys | None, site: int) -> RowKeys | None:
    """Returns the keys of one layer, or of one dropout site in a layer, from those of the model or the layer."""
    return None if keys is None else jax.vmap(jax.random.fold_in, (0, None))(keys, site)


def apply_dropout(x: Float[Array, "b ..."], keys: RowKeys | None, *, rate: float, site: int) -> Float[Array, "b ..."]:
    """Returns `x` with a fraction `rate` of its values set to 0 and the others scaled up (Srivastava et al., 2014).

    Args:
        x: the input. Its first axis is that of the rows.
        keys: the random keys of the rows. If they are None, as in evaluation, `x` is returned unchanged.
        rate: the probability that a value is dropped.
        site: the number of this dropout site. Two sites with the same keys need different numbers.
    """
    if keys is None or rate == 0.0:
        return x
    threshold = round(rate * NUM_UINT16)
    bits = jax.vmap(lambda key: random_uint16(key, x.shape[1:]))(fold_keys(keys, site))
    return jnp.where(bits >= threshold, x * (NUM_UINT16 / (NUM_UINT16 - threshold)), 0).astype(x.dtype)


def random_uint16(key: Key[Array, ""], shape: tuple[int, ...]) -> UInt16[Array, "..."]:
    """Returns random values of one row, each from 0 to 2¹⁶ - 1 with the same probability.

    Every block of the threefry generator (Salmon et al., 2011) gives four values. `jax.random.bits` uses a block for
    each value, so that any axis can be sharded. Here only the first axis can be: the heads of attention, which have
    blocks of their own.
    """
    first, size = shape[0], math.prod(shape[1:])
    counts = jnp.arange(first * -(-size // 2), dtype=jnp.uint32).reshape(first, -1)
    uint32s = jax.vmap(lambda counts: threefry_2x32(jax.random.key_data(key), counts))(counts)
    return jax.lax.bitcast_convert_type(uint32s, jnp.uint16).reshape(first, -1)[:, :size].reshape(shape)
