"""What is looked at beside the losses: means over the masked words, made in the same pass over the vocabulary."""

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
    """The mean of `row(z_s, z_t, labels)` over the labelled places."""

    compute: Callable[[Array, Array, Array], Array]

    def weights(self, batch):
        return batch.label_weights

    def values_from_logits(self, z_s, z_t, labels):
        return self.compute(z_s, z_t, labels).astype(jnp.float32)


def _entropy(z):
    log_p = jax.nn.log_softmax(z)
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


def _kl(z_t, z_s):
    log_p, log_q = jax.nn.log_softmax(z_t), jax.nn.log_softmax(z_s)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


_cross_entropy = optax.softmax_cross_entropy_with_integer_labels

STUDENT_METRICS = {
    log_keys.ACCURACY.name: LogitMetric(compute=lambda z_s, z_t, y: z_s.argmax(-1) == y),
    log_keys.CROSS_ENTROPY.name: LogitMetric(compute=lambda z_s, z_t, y: _cross_entropy(z_s, y)),
}
TEACHER_METRICS = {
    log_keys.TEACHER_CROSS_ENTROPY.name: LogitMetric(
        teacher="teacher", compute=lambda z_s, z_t, y: _cross_entropy(z_t, y)
    ),
    log_keys.TEACHER_ENTROPY.name: LogitMetric(teacher="teacher", compute=lambda z_s, z_t, y: _entropy(z_t)),
}
COMPARISON_METRICS = {
    log_keys.TEACHER_ACCURACY.name: LogitMetric(teacher="teacher", compute=lambda z_s, z_t, y: z_t.argmax(-1) == y),
    log_keys.TEACHER_AGREEMENT.name: LogitMetric(
        teacher="teacher", compute=lambda z_s, z_t, y: z_s.argmax(-1) == z_t.argmax(-1)
    ),
    log_keys.TEACHER_KL.name: LogitMetric(teacher="teacher", compute=lambda z_s, z_t, y: _kl(z_t, z_s)),
}
