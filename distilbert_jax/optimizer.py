"""The optimizer: AdamW (Loshchilov and Hutter, 2019) with linear warmup and linear decay."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW:
    """The settings of AdamW. The defaults are those of the released DistilBERT.

    The learning rate rises linearly from 0 to `learning_rate` in the first `warmup_ratio` of all steps, and then falls
    linearly to 0.
    """

    learning_rate: float = 5e-4  # the highest learning rate
    warmup_ratio: float = 0.05  # fraction of all steps
    weight_decay: float = 0.0  # not applied to biases and LayerNorms
    max_grad_norm: float = 5.0  # gradients are clipped to this global L2 norm
    b1: float = 0.9  # decay rate of the first moment
    b2: float = 0.98  # decay rate of the second moment
    eps: float = 1e-6  # added to the denominator

    def make_schedule(self, steps: int) -> Callable[[Any], Any]:
        """Returns the function from the index of a step, 0 to `steps` - 1, to its learning rate.

        During the warmup, step n has (n + 1) / warmup_steps of the highest learning rate, so that the first step
        already changes the parameters. An index that is a JAX array gives a JAX array. For an integer the function
        computes the same with NumPy: on a device it would have to wait for the running step.
        """
        warmup_steps = max(1, round(self.warmup_ratio * steps))

        def follow_line(start: float, end: float, index: Any, length: int) -> Any:
            xp = jnp if isinstance(index, jax.Array) else np
            fraction = 1 - xp.clip(index, 0, length).astype(np.float32) / np.float32(length)
            return (start - end) * fraction + end

        def schedule(index: Any) -> Any:
            xp = jnp if isinstance(index, jax.Array) else np
            lowest = self.learning_rate / warmup_steps
            warmup = follow_line(lowest, self.learning_rate, index, max(1, warmup_steps - 1))
            decay = follow_line(self.learning_rate, 0.0, index - warmup_steps, max(1, steps - warmup_steps))
            return xp.where(index < warmup_steps, warmup, decay)

        return schedule

    def make_transformation(self, steps: int) -> optax.GradientTransformation:
        """Returns the optax transformation for a run of `steps` steps: clipping, then AdamW."""
        adamw = optax.adamw(
            self.make_schedule(steps),
            b1=self.b1,
            b2=self.b2,
            eps=self.eps,
            weight_decay=self.weight_decay,
            mask=make_decay_mask,
        )
        return optax.chain(optax.clip_by_global_norm(self.max_grad_norm), adamw)


def make_decay_mask(params: optax.Params) -> optax.Params:
    """Returns the tree of `params` with True for the weights that decay: kernels and embeddings."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key in {"kernel", "embedding"}, params)
