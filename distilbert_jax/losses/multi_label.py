"""Several classes at once: each is a yes or no of its own."""

import dataclasses

import jax.numpy as jnp
import optax

from distilbert_jax.losses.base import LogitLoss


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiLabel(LogitLoss):
    """Binary cross entropy with labels [b p v] between 0 and 1, averaged over the classes and the labelled texts."""

    def weights(self, batch):
        return batch.label_weights

    def values_from_logits(self, z_s, z_t, labels):
        del z_t
        return jnp.mean(optax.sigmoid_binary_cross_entropy(z_s, labels), axis=-1)
