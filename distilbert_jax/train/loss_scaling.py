"""Dynamic loss scaling for float16 (Micikevicius et al., 2018), whose smallest numbers are larger than many gradients.

The losses are multiplied by a scale, the gradients divided by it in float32. Where that overflows, the update is left
out and the scale halved; after so many updates that went well it is doubled.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from distilbert_jax.types import Scale

FIRST, LAST = 2.0**15, 2.0**24
DOUBLED_AFTER = 2_000  # updates without an overflow


def first() -> Scale:
    """Before the first update."""
    zero = jnp.zeros((), jnp.int32)
    return Scale(value=jnp.asarray(FIRST, jnp.float32), since=zero, skipped=zero)


def after(scale: Scale, finite: Bool[Array, ""]) -> Scale:
    """The next update's scale. At 1 nothing is scaled, so what is not finite there is no overflow of scaling."""
    doubled = finite & (scale.since + 1 >= DOUBLED_AFTER)
    value = jnp.where(doubled, jnp.minimum(2 * scale.value, LAST), scale.value)
    value = jnp.where(finite, value, jnp.maximum(scale.value / 2, 1.0))
    since = jnp.where(finite & ~doubled, scale.since + 1, 0)
    return Scale(value=value, since=since, skipped=scale.skipped + overflowed(scale, finite))


def overflowed(scale: Scale, finite: Bool[Array, ""]) -> jax.Array:
    """Whether an update was left out because the scale was too large."""
    return ~finite & (scale.value > 1)
