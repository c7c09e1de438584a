"""Dynamic loss scaling for float16 (Micikevicius et al., 2018), in which small gradients would become zero.

The losses are multiplied by a scale, and the gradients are divided by it in float32. If a scaled gradient overflows,
the update is skipped and the scale is halved. After `DOUBLING_INTERVAL_STEPS` updates without an overflow it is
doubled.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from distilbert_jax.types import LossScale

INITIAL_SCALE, MAX_SCALE = 2.0**15, 2.0**24
DOUBLING_INTERVAL_STEPS = 2_000


def init_loss_scale() -> LossScale:
    """Returns the loss scale of the first step."""
    zero = jnp.zeros((), jnp.int32)
    return LossScale(value=jnp.asarray(INITIAL_SCALE, jnp.float32), steps_since_change=zero, num_overflows=zero)


def update_loss_scale(loss_scale: LossScale, is_finite: Bool[Array, ""]) -> LossScale:
    """Returns the loss scale of the next step.

    Args:
        loss_scale: the loss scale of this step.
        is_finite: whether all losses and gradients of this step are finite.
    """
    is_doubled = is_finite & (loss_scale.steps_since_change + 1 >= DOUBLING_INTERVAL_STEPS)
    value = jnp.where(is_doubled, jnp.minimum(2 * loss_scale.value, MAX_SCALE), loss_scale.value)
    value = jnp.where(is_finite, value, jnp.maximum(loss_scale.value / 2, 1.0))
    return LossScale(
        value=value,
        steps_since_change=jnp.where(is_finite & ~is_doubled, loss_scale.steps_since_change + 1, 0),
        num_overflows=loss_scale.num_overflows + has_overflowed(loss_scale, is_finite),
    )


def has_overflowed(loss_scale: LossScale, is_finite: Bool[Array, ""]) -> jax.Array:
    """Returns whether a step was not finite because of its loss scale.

    A scale of 1 changes nothing, so with it a step that is not finite is a failure of the run itself.
    """
    return ~is_finite & (loss_scale.value > 1)
