"""The teacher's raw scores as numbers: for a regression, or several classes at once, where there is no softmax to
soften (Ba and Caruana, 2014).
"""

import dataclasses

import jax.numpy as jnp

from distilbert_jax.losses.base import LogitLoss


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitMSE(LogitLoss):
    """The mean over v of (z_s − z_t)², averaged over all questions asked, labelled or not."""

    teacher: str | None = "teacher"

    @property
    def needs_all_positions(self):
        return True

    def weights(self, batch):
        return batch.prediction_weights

    def values_from_logits(self, z_s, z_t, labels):
        del labels
        return jnp.mean(jnp.square(z_s - z_t), axis=-1)
