"""The loss of a regression, such as the similarity of two sentences."""

import dataclasses

import jax.numpy as jnp

from distilbert_jax.losses.base import LogitLoss


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegressionMSE(LogitLoss):
    """The squared error of a predicted number, averaged over the labelled predictions:

        (student_logits[0] − label)²

    The model has one output, v = 1, and the labels are [b, p].
    """

    def weights(self, batch):
        """Returns 1 for each labelled prediction, [b, p]."""
        return batch.label_weights

    def values_from_logits(self, student_logits, teacher_logits, labels):
        """Returns the squared error of each prediction, [b, p]."""
        del teacher_logits
        return jnp.square(student_logits[..., 0] - labels)
