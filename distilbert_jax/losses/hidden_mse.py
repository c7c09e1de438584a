"""Mean squared error of hidden states, layer by layer (TinyBERT: Jiao et al., 2020)."""

import dataclasses

import jax
import jax.numpy as jnp

from distilbert_jax.losses.base import Loss


@dataclasses.dataclass(frozen=True, kw_only=True)
class HiddenMSE(Loss):
    """mean_d (h_s W − h_t)² after each layer of the student, averaged over layers and over every real token. W is
    learned where the hidden sizes differ; there is none where they are the same.

    `layers` names the teacher's layer for each of the student's, counted from 1; evenly spaced where left out, so that
    the last meets the last.
    """

    teacher: str | None = "teacher"
    layers: tuple[int, ...] | None = None

    def init_params(self, key, *, student_size, teacher_size):
        if student_size == teacher_size:
            return {}
        return {"kernel": jax.nn.initializers.lecun_normal()(key, (student_size, teacher_size))}

    def teacher_layers(self, *, student_layers: int, teacher_layers: int) -> tuple[int, ...]:
        """The teacher's layer for each of the student's. ValueError where `layers` does not fit the two."""
        if self.layers is None:
            return tuple(round((i + 1) * teacher_layers / student_layers) for i in range(student_layers))
        wrong = [layer for layer in self.layers if not 1 <= layer <= teacher_layers]
        if wrong or len(self.layers) != student_layers:
            raise ValueError(
                f"HiddenMSE.layers is {self.layers}: write one of the teacher's layers, 1 to {teacher_layers}, for "
                f"each of the student's {student_layers}"
            )
        return self.layers

    def check_models(self, student, teacher):
        self.teacher_layers(student_layers=student.num_layers, teacher_layers=teacher.num_layers)

    def weights(self, batch):
        return batch.token_mask.astype(jnp.float32)

    def values(self, params, student, teacher):
        ours, theirs = student.hidden_states[1:], teacher.hidden_states[1:]
        layers = self.teacher_layers(student_layers=len(ours), teacher_layers=len(theirs))
        errors = [self._error(params, h_s, theirs[layer - 1]) for h_s, layer in zip(ours, layers, strict=True)]
        return sum(errors) / len(errors)

    def _error(self, params, h_s, h_t):
        h_s, h_t = h_s.astype(jnp.float32), h_t.astype(jnp.float32)
        if params:
            h_s = h_s @ params["kernel"]
        return jnp.mean(jnp.square(h_s - h_t), axis=-1)
