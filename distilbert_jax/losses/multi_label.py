"""The loss of a classification in which one text may have several labels."""

import dataclasses

import jax.numpy as jnp
import optax

from distilbert_jax.losses.base import LogitLoss


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiLabel(LogitLoss):
    """The binary cross entropy of each class, averaged over the classes and the labelled predictions:

        −mean_v [y log σ(z) + (1 − y) log (1 − σ(z))],    z = student_logits

    The labels y are [b, p, v], each between 0 and 1.
    """

    def weights(self, batch):
        """Returns 1 for each labelled prediction, [b, p]."""
        return batch.label_weights

    def values_from_logits(self, student_logits, teacher_logits, labels):
        """Returns the binary cross entropy of each prediction, averaged over the classes, [b, p]."""
        del teacher_logits
        return jnp.mean(optax.sigmoid_binary_cross_entropy(student_logits, labels), axis=-1)
