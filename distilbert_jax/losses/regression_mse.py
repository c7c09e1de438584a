"""Squared error of a number: regression, such as the likeness of two sentences."""

import dataclasses

import jax.numpy as jnp

from distilbert_jax.losses.base import LogitLoss


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegressionMSE(LogitLoss):
    """(z_s − label)², averaged over the labelled texts. One score a text."""

    def weights(self, batch):
        return batch.label_weights

    def values_from_logits(self, z_s, z_t, labels):
        del z_t
        return jnp.square(z_s[..., 0] - labels)
