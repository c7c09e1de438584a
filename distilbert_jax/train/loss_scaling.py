"""Dynamic loss scaling for float16 (Micikevicius et al., 2018), whose smallest numbers are larger than many gradients.

The losses are multiplied by a scale, the gradients divided by it in float32. Where that overflows, the update is left
out and the scale halved; after so many updates that went well it is doubled.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from distilbert_jax.types import LossScale

INITIAL_SCALE, MIN_SCALE = 2.0**15, 2.0**24
DOUBLING_INTERVAL_STEPS = 2_000  # updates without an overflow


def init_loss_scale() -> LossScale:
    """Before the first update."""
    zero = jnp.zeros((), jnp.int32)
    return LossScale(value=jnp.asarray(INITIAL_SCALE, jnp.float32), steps_since_change=zero, num_overflows=zero)


def update_loss_scale(scale: LossScale, finite: Bool[Array, ""]) -> LossScale:
    """The next update's scale. At 1 nothing is scaled, so what is not finite there is no overflow of scaling."""
    doubled = finite & (scale.steps_since_change + 1 >= DOUBLING_INTERVAL_STEPS)
    value = jnp.where(doubled, jnp.minimum(2 * scale.value, MIN_SCALE), scale.value)
    value = jnp.where(finite, value, jnp.maximum(scale.value / 2, 1.0))
    since = jnp.where(finite & ~doubled, scale.steps_since_change + 1, 0)
    return LossScale(
        value=value, steps_since_change=since, num_overflows=scale.num_overflows + has_overflowed(scale, finite)
    )


def has_overflowed(scale: LossScale, finite: Bool[Array, ""]) -> jax.Array:
    """Whether an update was left out because the scale was too large."""
    return ~finite & (scale.value > 1)
