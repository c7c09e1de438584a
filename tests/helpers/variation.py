"""A loss that is not part of the package, as a user would write it in an experiment file."""

import dataclasses

import jax
import jax.numpy as jnp

from distilbert_jax.losses.base import LogitLoss


@dataclasses.dataclass(frozen=True, kw_only=True)
class TotalVariation(LogitLoss):
    """The total variation distance ½ Σ_v |p_t − p_s|, averaged over the masked tokens."""

    teacher: str | None = "teacher"

    def weights(self, batch):
        return batch.label_weights

    def values_from_logits(self, student_logits, teacher_logits, labels):
        return jnp.abs(jax.nn.softmax(teacher_logits) - jax.nn.softmax(student_logits)).sum(-1) / 2
