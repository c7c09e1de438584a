"""A loss that the package does not know, as a user would write it in an experiment file."""

import dataclasses

import jax
import jax.numpy as jnp

from distilbert_jax.losses.base import LogitLoss


@dataclasses.dataclass(frozen=True, kw_only=True)
class TotalVariation(LogitLoss):
    """½ Σ_v |p_t − p_s| over masked words."""

    teacher: str | None = "teacher"

    def weights(self, batch):
        return batch.label_weights

    def values_from_logits(self, z_s, z_t, labels):
        return jnp.abs(jax.nn.softmax(z_t) - jax.nn.softmax(z_s)).sum(-1) / 2
