"""Metrics that are logged next to the losses, such as the accuracy on masked tokens.

They are written as losses, so that they are computed from the same blocks of logits, but nothing is learned from them.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from distilbert_jax import log_keys
from distilbert_jax.losses.base import LogitLoss


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitMetric(LogitLoss):
    """The mean of a function of the logits over the labelled predictions.

    Attributes:
        compute: (student_logits, teacher_logits, labels) -> one value for each prediction. The logits are [b, p, v],
            the labels and the values [b, p].
    """

    compute: Callable[[Array, Array, Array], Array]

    def weights(self, batch):
        """Returns 1 for each labelled prediction, [b, p]."""
        return batch.label_weights

    def values_from_logits(self, student_logits, teacher_logits, labels):
        """Returns what `compute` returns, in float32, [b, p]."""
        return self.compute(student_logits, teacher_logits, labels).astype(jnp.float32)


def _accuracy(student_logits, teacher_logits, labels):
    """Returns whether the student's most likely answer is the label."""
    del teacher_logits
    return student_logits.argmax(-1) == labels


def _teacher_accuracy(student_logits, teacher_logits, labels):
    """Returns whether the teacher's most likely answer is the label."""
    del student_logits
    return teacher_logits.argmax(-1) == labels


def _teacher_agreement(student_logits, teacher_logits, labels):
    """Returns whether student and teacher have the same most likely answer."""
    del labels
    return student_logits.argmax(-1) == teacher_logits.argmax(-1)


def _cross_entropy(student_logits, teacher_logits, labels):
    """Returns the student's cross entropy with the label."""
    del teacher_logits
    return optax.softmax_cross_entropy_with_integer_labels(student_logits, labels)


def _teacher_cross_entropy(student_logits, teacher_logits, labels):
    """Returns the teacher's cross entropy with the label."""
    del student_logits
    return optax.softmax_cross_entropy_with_integer_labels(teacher_logits, labels)


def _teacher_entropy(student_logits, teacher_logits, labels):
    """Returns the entropy of the teacher's distribution."""
    del student_logits, labels
    log_probs = jax.nn.log_softmax(teacher_logits)
    return -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)


def _teacher_kl(student_logits, teacher_logits, labels):
    """Returns the KL divergence from the teacher's distribution to the student's."""
    del labels
    teacher_log_probs, student_log_probs = jax.nn.log_softmax(teacher_logits), jax.nn.log_softmax(student_logits)
    return jnp.sum(jnp.exp(teacher_log_probs) * (teacher_log_probs - student_log_probs), axis=-1)


STUDENT_METRICS = {
    log_keys.ACCURACY.name: LogitMetric(compute=_accuracy),
    log_keys.CROSS_ENTROPY.name: LogitMetric(compute=_cross_entropy),
}
"""Metrics of the student, by log key."""

TEACHER_METRICS = {
    log_keys.TEACHER_CROSS_ENTROPY.name: LogitMetric(teacher="teacher", compute=_teacher_cross_entropy),
    log_keys.TEACHER_ENTROPY.name: LogitMetric(teacher="teacher", compute=_teacher_entropy),
}
"""Metrics of the teacher that are also logged during training, by log key."""

COMPARISON_METRICS = {
    log_keys.TEACHER_ACCURACY.name: LogitMetric(teacher="teacher", compute=_teacher_accuracy),
    log_keys.TEACHER_AGREEMENT.name: LogitMetric(teacher="teacher", compute=_teacher_agreement),
    log_keys.TEACHER_KL.name: LogitMetric(teacher="teacher", compute=_teacher_kl),
}
"""Metrics that compare the student with the teacher in an evaluation, by log key."""
