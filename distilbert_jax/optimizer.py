"""The optimizer: AdamW (Loshchilov and Hutter, 2019) with linear warmup and linear decay."""

import dataclasses
from typing import Annotated

import jax
import optax

from distilbert_jax.fields import Range, check_fields


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW:
    """The settings of AdamW. The defaults are those of the released DistilBERT.

    The learning rate rises linearly from 0 to `learning_rate` in the first `warmup_ratio` of all steps, and then falls
    linearly to 0.

    Raises:
        ValueError: a field has a value that is not allowed.
    """

    learning_rate: Annotated[float, Range(above=0)] = 5e-4  # the highest learning rate
    warmup_ratio: Annotated[float, Range(at_least=0, at_most=1)] = 0.05  # fraction of all steps
    weight_decay: Annotated[float, Range(at_least=0)] = 0.0  # not applied to biases and LayerNorms
    max_grad_norm: Annotated[float, Range(above=0)] = 5.0  # gradients are clipped to this global L2 norm
    b1: Annotated[float, Range(at_least=0, below=1)] = 0.9  # decay rate of the first moment
    b2: Annotated[float, Range(at_least=0, below=1)] = 0.98  # decay rate of the second moment
    eps: Annotated[float, Range(above=0)] = 1e-6  # added to the denominator

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_fields(self, path="optimizer")

    def make_schedule(self, steps: int) -> optax.Schedule:
        """Returns the function from the index of a step, 0 to `steps` - 1, to its learning rate.

        During the warmup, step n has (n + 1) / warmup_steps of the highest learning rate, so that the first step
        already changes the parameters.
        """
        warmup_steps = max(1, round(self.warmup_ratio * steps))
        warmup = optax.linear_schedule(self.learning_rate / warmup_steps, self.learning_rate, max(1, warmup_steps - 1))
        decay = optax.linear_schedule(self.learning_rate, 0.0, max(1, steps - warmup_steps))
        return optax.join_schedules([warmup, decay], [warmup_steps])

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
