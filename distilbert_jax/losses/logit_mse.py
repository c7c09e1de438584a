"""The mean squared error between the logits of student and teacher (Ba and Caruana, 2014).

It distils tasks without a softmax: regression, and classification with several labels for one text.
"""

import dataclasses

import jax.numpy as jnp

from distilbert_jax.losses.base import LogitLoss


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitMSE(LogitLoss):
    """The squared error between the logits, averaged over all predictions, with or without a label:

    mean_v (student_logits − teacher_logits)²
    """

    teacher: str = "teacher"

    @property
    def needs_all_positions(self):
        """True: predictions without a label count, too."""
        return True

    def weights(self, batch):
        """Returns 1 for each prediction, [b, p]."""
        return batch.prediction_weights

    def values_from_logits(self, student_logits, teacher_logits, labels):
        """Returns the mean squared error of each prediction, [b, p]."""
        del labels
        return jnp.mean(jnp.square(student_logits - teacher_logits), axis=-1)
