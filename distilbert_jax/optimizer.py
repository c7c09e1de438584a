"""AdamW with warm-up and linear decay (Loshchilov and Hutter, 2019), as DistilBERT was trained."""

import dataclasses

import jax
import optax


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW:
    """The released settings. `warmup` is the share of all steps in which the rate rises to `peak_lr`; from there it
    falls to 0 at the last step.

    Weight decay spares biases and LayerNorms. Gradients are clipped to the global norm `clip_norm`.
    """

    peak_lr: float = 5e-4
    warmup: float = 0.05
    weight_decay: float = 0.0
    clip_norm: float = 5.0
    b1: float = 0.9
    b2: float = 0.98
    eps: float = 1e-6

    def schedule(self, steps: int) -> optax.Schedule:
        """The learning rate of update n, 0 ≤ n < `steps`. The first update already moves: (n + 1) / rise of the
        peak.
        """
        rise = max(1, round(self.warmup * steps))
        up = optax.linear_schedule(self.peak_lr / rise, self.peak_lr, max(1, rise - 1))
        down = optax.linear_schedule(self.peak_lr, 0.0, max(1, steps - rise))
        return optax.join_schedules([up, down], [rise])

    def transformation(self, steps: int) -> optax.GradientTransformation:
        adamw = optax.adamw(
            self.schedule(steps), b1=self.b1, b2=self.b2, eps=self.eps, weight_decay=self.weight_decay, mask=decayed
        )
        return optax.chain(optax.clip_by_global_norm(self.clip_norm), adamw)


def decayed(params: optax.Params) -> optax.Params:
    """True for the weights that decay: kernels and embeddings."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key in {"kernel", "embedding"}, params)
