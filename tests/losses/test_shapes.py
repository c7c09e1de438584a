"""Tests that a loss which takes a mean by itself, or has another mistake, is refused while the step is traced."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from distilbert_jax.losses.base import LogitLoss, Loss
from tests.helpers.batches import make_rows, stack
from tests.train.test_step import setup


@dataclasses.dataclass(frozen=True, kw_only=True)
class Near(Loss):
    """Compares hidden states, with one mistake."""

    mistake: str
    teacher: str | None = "teacher"

    def weights(self, batch):
        weights = batch.token_mask.astype(jnp.float32)
        return {"weights": weights.sum(), "no weights": None, "weights of features": weights[0]}.get(
            self.mistake, weights
        )

    def values(self, params, student, teacher):
        if self.mistake == "error":
            return teacher.logitz
        errors = jnp.square(student.hidden_states[-1] - teacher.hidden_states[-1])
        axis = {"mean": None, "mean of a row": (-2, -1), "no mean": (), "mean of all rows": (0, 2)}.get(
            self.mistake, -1
        )
        return None if self.mistake == "nothing" else jnp.mean(errors, axis=axis)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NearLogits(LogitLoss):
    """Compares logits, and takes the mean."""

    mistake: str
    teacher: str | None = "teacher"

    def weights(self, batch):
        return batch.token_mask[:, :1] if self.mistake == "weights" else batch.label_weights

    def values_from_logits(self, student_logits, teacher_logits, labels):
        errors = jnp.square(student_logits - teacher_logits)
        return errors.mean() if self.mistake == "mean" else errors


MISTAKES = {
    (Near, "mean"): r"losses.near: Near.values returned the shape \(\), but the shape must be \(8, 16\), that of its",
    (Near, "mean of a row"): r"Near.values returned the shape \(8,\), but the shape must be \(8, 16\)",
    (Near, "mean of all rows"): r"Near.values returned the shape \(16,\), but the shape must be \(8, 16\)",
    (Near, "no mean"): r"Near.values returned the shape \(8, 16, 24\), but the shape must be \(8, 16\)",
    (Near, "nothing"): r"Near.values returned None, but the shape must be \(8, 16\)",
    (Near, "weights"): r"Near.weights returned the shape \(\), but the shape must be \(8,\) or \(8, 16\)",
    (Near, "no weights"): r"Near.weights returned None, but the shape must be \(8,\) or \(8, 16\)",
    (Near, "weights of features"): r"Near.weights returned the shape \(16,\), but the shape must be \(8,\)",
    (Near, "error"): r"test_shapes\.py, line 29: AttributeError: .* has no attribute 'logitz'",
    (NearLogits, "mean"): r"NearLogits.values_from_logits returned the shape \(\), but the shape must be \(8, 16\)",
    (NearLogits, "no mean"): r"NearLogits.values_from_logits returned the shape \(8, 16, \d+\), but the shape must be",
    (NearLogits, "weights"): r"NearLogits.weights returned the shape \(8, 1\), but the shape must be \(8, 16\)",
}


@pytest.mark.parametrize("loss, mistake", MISTAKES)
def test_a_loss_has_to_return_one_value_for_each_weight(loss, mistake):
    losses = {"near": loss(mistake=mistake)}
    step, state, teachers = setup(losses)
    with pytest.raises(ValueError, match=MISTAKES[loss, mistake]):
        jax.eval_shape(step, state, teachers, stack(make_rows(), 1))


def test_a_loss_without_its_methods_cannot_be_made():
    with pytest.raises(TypeError, match="abstract class Loss"):
        Loss()
    with pytest.raises(TypeError, match="abstract class LogitLoss"):
        LogitLoss()
