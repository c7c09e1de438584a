"""The cosine distance between the last hidden states of student and teacher (Sanh et al., 2019)."""

import dataclasses

import jax.numpy as jnp
import optax

from distilbert_jax.losses.base import Loss


@dataclasses.dataclass(frozen=True, kw_only=True)
class HiddenCosine(Loss):
    """The cosine distance between the outputs of the last layers, averaged over all tokens except padding:

        1 − cos(h_s, h_t)

    Both models must have the same hidden size.
    """

    teacher: str = "teacher"

    def check_models(self, student, teacher):
        """Raises ValueError if the hidden sizes differ."""
        if student.hidden_size != teacher.hidden_size:
            raise ValueError(
                f"HiddenCosine compares hidden states of one size, but hidden_size is {student.hidden_size} in the "
                f"student and {teacher.hidden_size} in the teacher. Use HiddenMSE, which learns a projection."
            )

    def weights(self, batch):
        """Returns 1 for each token and 0 for padding, [b, t]."""
        return batch.token_mask.astype(jnp.float32)

    def values(self, params, student, teacher):
        """Returns the cosine distance at each token, [b, t]."""
        del params
        student_hidden = student.hidden_states[-1].astype(jnp.float32)
        teacher_hidden = teacher.hidden_states[-1].astype(jnp.float32)
        return optax.cosine_distance(student_hidden, teacher_hidden, epsilon=1e-12)
