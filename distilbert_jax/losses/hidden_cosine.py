"""Cosine distance of the last hidden states (Sanh et al., 2019)."""

import dataclasses

import jax.numpy as jnp
import optax

from distilbert_jax.losses.base import Loss


@dataclasses.dataclass(frozen=True, kw_only=True)
class HiddenCosine(Loss):
    """1 − cos(h_s, h_t) after the last LayerNorm, averaged over every real token. Both models must be of one hidden
    size.
    """

    teacher: str | None = "teacher"

    def check_models(self, student, teacher):
        if student.hidden_size != teacher.hidden_size:
            raise ValueError(
                f"Cosine compares hidden states of one size; the teacher has {teacher.hidden_size}, the student "
                f"{student.hidden_size}"
            )

    def weights(self, batch):
        return batch.token_mask.astype(jnp.float32)

    def values(self, params, student, teacher):
        del params
        return optax.cosine_distance(
            student.hidden_states[-1].astype(jnp.float32), teacher.hidden_states[-1].astype(jnp.float32), epsilon=1e-12
        )
