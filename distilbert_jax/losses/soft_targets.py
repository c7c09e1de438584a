"""Soft targets: KL from the teacher's softened answer to the student's (Hinton et al., 2015), times T² in value and
gradient.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from distilbert_jax.losses.base import LogitLoss


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoftTargets(LogitLoss):
    """T² · Σ_v p_t (log p_t − log p_s), p = softmax(z / T), averaged over positions.

    `positions`: "asked" is every real token, as DistilBERT was trained; "labelled" the masked ones only, a seventh of
    the vocabulary products.
    """

    teacher: str | None = "teacher"
    temperature: float = 2.0
    positions: Literal["all", "labelled"] = "all"

    @property
    def needs_all_positions(self):
        return self.positions == "all"

    def weights(self, batch):
        return batch.prediction_weights if self.positions == "all" else batch.label_weights

    def values_from_logits(self, z_s, z_t, labels):
        del labels
        log_p = jax.nn.log_softmax(z_t / self.temperature)
        log_q = jax.nn.log_softmax(z_s / self.temperature)
        return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1) * self.temperature**2
