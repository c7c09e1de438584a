"""AdamW with warm-up and linear decay (Loshchilov and Hutter, 2019), as DistilBERT was trained."""

import dataclasses

import jax
import optax


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW:
    """The released settings. `warmup` is the share of all steps in which the rate rises to `learning_rate`; from there it
    falls to 0 at the last step.

    Weight decay spares biases and LayerNorms. Gradients are clipped to the global norm `max_grad_norm`.
    """

    learning_rate: float = 5e-4
    warmup_ratio: float = 0.05
    weight_decay: float = 0.0
    max_grad_norm: float = 5.0
    b1: float = 0.9
    b2: float = 0.98
    eps: float = 1e-6

    def make_schedule(self, steps: int) -> optax.Schedule:
        """The learning rate of update n, 0 ≤ n < `steps`. The first update already moves: (n + 1) / rise of the
        peak.
        """
        rise = max(1, round(self.warmup_ratio * steps))
        up = optax.linear_schedule(self.learning_rate / rise, self.learning_rate, max(1, rise - 1))
        down = optax.linear_schedule(self.learning_rate, 0.0, max(1, steps - rise))
        return optax.join_schedules([up, down], [rise])

    def make_transformation(self, steps: int) -> optax.GradientTransformation:
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
    """True for the weights that decay: kernels and embeddings."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key in {"kernel", "embedding"}, params)
