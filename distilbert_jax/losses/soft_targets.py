"""Soft targets: KL from the teacher's softened answer to the student's (Hinton et al., 2015), times T² in value and
gradient.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from distilbert_jax.losses.base import ScoreLoss


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoftTargets(ScoreLoss):
    """T² · Σ_v p_t (log p_t − log p_s), p = softmax(z / T), averaged over positions.

    `positions`: "asked" is every real token, as DistilBERT was trained; "labelled" the masked ones only, a seventh of
    the vocabulary products.
    """

    teacher: str | None = "teacher"
    temperature: float = 2.0
    positions: Literal["asked", "labelled"] = "asked"

    @property
    def asks_everywhere(self):
        return self.positions == "asked"

    def weights(self, batch):
        return batch.asked if self.positions == "asked" else batch.weights

    def answer(self, z_s, z_t, labels):
        del labels
        log_p = jax.nn.log_softmax(z_t / self.temperature)
        log_q = jax.nn.log_softmax(z_s / self.temperature)
        return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1) * self.temperature**2
