"""Makes random keys and generators from a seed, which may be any integer.

Seeds from 0 to 2³² − 1 are used as they are. JAX would wrap any other one to 32 bits, so that 2³² would draw the
numbers of 0, and NumPy refuses negative ones. Of those, two words of a hash are used.
"""

import hashlib

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

Seed = int | Int[Array, ""]

WORD_BITS = 32


def seed_words(seed: int) -> tuple[int, ...]:
    """Returns the 32-bit words that represent a seed, for `numpy.random.SeedSequence`.

    A seed from 0 to 2³² − 1 is one word. Any other has two, of which the first is not 0.
    """
    if 0 <= seed < 2**WORD_BITS:
        return (seed,)
    digest = hashlib.sha256(hex(seed).encode()).digest()
    first, second = int.from_bytes(digest[:4]), int.from_bytes(digest[4:8])
    return (first or 1, second)


def random_key(seed: Seed) -> Array:
    """Returns JAX's random key of a seed: an integer, or an array on a device, which is from 0 to 2³² − 1.

    The key of a seed of one word begins with 0, so it differs from every key of two words.
    """
    if isinstance(seed, int) and len(words := seed_words(seed)) == 2:
        return jax.random.wrap_key_data(jnp.asarray(words, jnp.uint32), impl="threefry2x32")
    return jax.random.key(seed)
