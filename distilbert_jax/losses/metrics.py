"""What is looked at beside the losses: means over the masked words, made in the same pass over the vocabulary."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from distilbert_jax.losses.base import ScoreLoss


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric(ScoreLoss):
    """The mean of `row(z_s, z_t, labels)` over the labelled places."""

    row: Callable[[Array, Array, Array], Array]

    def weights(self, batch):
        return batch.weights

    def answer(self, z_s, z_t, labels):
        return self.row(z_s, z_t, labels).astype(jnp.float32)


def _entropy(z):
    log_p = jax.nn.log_softmax(z)
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


def _kl(z_t, z_s):
    log_p, log_q = jax.nn.log_softmax(z_t), jax.nn.log_softmax(z_s)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


_cross_entropy = optax.softmax_cross_entropy_with_integer_labels

STUDENT = {
    "accuracy": Metric(row=lambda z_s, z_t, y: z_s.argmax(-1) == y),
    "cross_entropy": Metric(row=lambda z_s, z_t, y: _cross_entropy(z_s, y)),
}
TEACHER = {
    "teacher_cross_entropy": Metric(teacher="teacher", row=lambda z_s, z_t, y: _cross_entropy(z_t, y)),
    "teacher_entropy": Metric(teacher="teacher", row=lambda z_s, z_t, y: _entropy(z_t)),
}
BOTH = {
    "teacher_accuracy": Metric(teacher="teacher", row=lambda z_s, z_t, y: z_t.argmax(-1) == y),
    "agreement": Metric(teacher="teacher", row=lambda z_s, z_t, y: z_s.argmax(-1) == z_t.argmax(-1)),
    "kl": Metric(teacher="teacher", row=lambda z_s, z_t, y: _kl(z_t, z_s)),
}
