"""The optimizer: AdamW (Loshchilov and Hutter, 2019) with linear warmup and linear decay."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW:
    """The settings of AdamW. The defaults are those of the released DistilBERT.

    The learning rate rises linearly from 0 to `learning_rate` in the first `warmup_ratio` of all steps, and then falls
    linearly to 0. A step whose update is skipped counts as a step.
    """

    learning_rate: float = 5e-4  # the highest learning rate
    warmup_ratio: float = 0.05  # fraction of all steps
    weight_decay: float = 0.0  # not applied to biases and LayerNorms
    max_grad_norm: float = 5.0  # gradients are clipped to this global L2 norm
    b1: float = 0.9  # decay rate of the first moment
    b2: float = 0.98  # decay rate of the second moment
    eps: float = 1e-6  # added to the denominator

    def make_schedule(self, steps: int) -> optax.Schedule:
        """Returns the function from the index of a step, 0 to `steps` - 1, to its learning rate.

        During the warmup, step n has (n + 1) / warmup_steps of the highest learning rate, so that the first step
        already changes the parameters.
        """
        warmup_steps = max(1, round(self.warmup_ratio * steps))
        warmup = optax.linear_schedule(self.learning_rate / warmup_steps, self.learning_rate, max(1, warmup_steps - 1))
        decay = optax.linear_schedule(self.learning_rate, 0.0, max(1, steps - warmup_steps))
        return optax.join_schedules([warmup, decay], [warmup_steps])

    def make_transformation(self, steps: int) -> optax.GradientTransformationExtraArgs:
        """Returns the optax transformation for a run of `steps` steps: clipping, then AdamW.

        Its `update` takes the index of the step as the keyword argument `step`, and uses the learning rate of that
        step. A transformation that counted its own updates would fall behind where a step is skipped.
        """
        return optax.chain(
            optax.clip_by_global_norm(self.max_grad_norm),
            optax.scale_by_adam(b1=self.b1, b2=self.b2, eps=self.eps),
            optax.add_decayed_weights(self.weight_decay, make_decay_mask),
            scale_by_learning_rate(self.make_schedule(steps)),
        )


def scale_by_learning_rate(schedule: optax.Schedule) -> optax.GradientTransformationExtraArgs:
    """Returns the transformation that multiplies updates by the negative learning rate of the step.

    Args:
        schedule: returns the learning rate of the step with the given index, which starts at 0.
    """

    def init(params: optax.Params) -> optax.EmptyState:
        del params
        return optax.EmptyState()

    def update(
        updates: optax.Updates,
        state: optax.EmptyState,
        params: optax.Params | None = None,
        *,
        step: int | Int[Array, ""],
        **_: Any,
    ) -> tuple[optax.Updates, optax.EmptyState]:
        del params
        factor = -1 * schedule(step)
        return jax.tree.map(lambda x: jnp.array(factor, dtype=x.dtype) * x, updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def make_decay_mask(params: optax.Params) -> optax.Params:
    """Returns the tree of `params` with True for the weights that decay: kernels and embeddings."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key in {"kernel", "embedding"}, params)
