"""The mean squared error between hidden states, layer by layer (TinyBERT: Jiao et al., 2020)."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp

from distilbert_jax.losses.base import Loss


@dataclasses.dataclass(frozen=True, kw_only=True)
class HiddenMSE(Loss):
    """The mean squared error between each layer of the student and a layer of the teacher:

        mean_d (h_s W − h_t)²

    averaged over the layers of the student and over all tokens except padding. If the hidden sizes differ, W is a
    learned projection that all layers share; otherwise the loss has no W.

    Attributes:
        layers: the teacher's layer for each layer of the student, counted from 1 and never lower than the one before.
            If it is None, they are evenly spaced: layer i of s student layers is compared with layer i · t / s of t
            teacher layers, or the next one above it. The last layers are compared with each other.
    """

    teacher: str | None = "teacher"
    layers: tuple[int, ...] | None = None

    def init_params(self, key, *, student_size, teacher_size):
        """Returns W as {"kernel": [student_size, teacher_size]}, or {} if both sizes are the same."""
        if student_size == teacher_size:
            return {}
        return {"kernel": jax.nn.initializers.lecun_normal()(key, (student_size, teacher_size))}

    def teacher_layers(self, *, student_layers: int, teacher_layers: int) -> tuple[int, ...]:
        """Returns the teacher's layer for each layer of the student, counted from 1.

        Raises:
            ValueError: the field `layers` has the wrong length, names a layer that the teacher does not have, or falls.
        """
        if self.layers is None:
            # Rounded up: rounded down, the first layer of a deep student would get the teacher's embeddings.
            return tuple(-(-i * teacher_layers // student_layers) for i in range(1, student_layers + 1))
        invalid = [layer for layer in self.layers if not 1 <= layer <= teacher_layers]
        if invalid or len(self.layers) != student_layers:
            raise ValueError(
                f"HiddenMSE.layers is {self.layers}, which does not fit the models. Write one of the teacher's layers, "
                f"1 to {teacher_layers}, for each of the student's {student_layers} layers."
            )
        fall = next((pair for pair in itertools.pairwise(self.layers) if pair[1] < pair[0]), None)
        if fall is not None:
            raise ValueError(
                f"HiddenMSE.layers is {self.layers}, in which {fall[1]} follows {fall[0]}. Layers higher up in the "
                "student are compared with layers higher up in the teacher: write the layers in rising order."
            )
        return self.layers

    def check_models(self, student, teacher):
        """Raises ValueError if the field `layers` does not fit the models."""
        self.teacher_layers(student_layers=student.num_layers, teacher_layers=teacher.num_layers)

    def weights(self, batch):
        """Returns 1 for each token and 0 for padding, [b, t]."""
        return batch.token_mask.astype(jnp.float32)

    def values(self, params, student, teacher):
        """Returns the squared error at each token, averaged over d and over layers, [b, t]."""
        # Entry 0 of the hidden states is the embeddings, which are not compared.
        num_student_layers, num_teacher_layers = len(student.hidden_states) - 1, len(teacher.hidden_states) - 1
        layers = self.teacher_layers(student_layers=num_student_layers, teacher_layers=num_teacher_layers)
        errors = [
            self._squared_error(params, student_hidden, teacher.hidden_states[layer])
            for student_hidden, layer in zip(student.hidden_states[1:], layers, strict=True)
        ]
        return sum(errors) / len(errors)

    def _squared_error(self, params, student_hidden, teacher_hidden):
        """Returns the squared error of one layer at each token, averaged over d, [b, t]."""
        student_hidden, teacher_hidden = student_hidden.astype(jnp.float32), teacher_hidden.astype(jnp.float32)
        if params:
            student_hidden = student_hidden @ params["kernel"]
        return jnp.mean(jnp.square(student_hidden - teacher_hidden), axis=-1)
