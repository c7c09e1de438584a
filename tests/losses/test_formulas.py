"""Every loss of score rows and of hidden states against float64, written straight from the paper: value and
gradient.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distilbert_jax.losses import base
from distilbert_jax.losses.cosine import Cosine
from distilbert_jax.losses.hard_targets import HardTargets
from distilbert_jax.losses.logit_mse import LogitMSE
from distilbert_jax.losses.metrics import BOTH, STUDENT, TEACHER
from distilbert_jax.losses.several_labels import SeveralLabels
from distilbert_jax.losses.soft_targets import SoftTargets
from distilbert_jax.losses.squared_error import SquaredError
from distilbert_jax.types import Outputs
from tests.batches import make_rows, plain

RANDOM = np.random.default_rng(0)
Z_S, Z_T = RANDOM.normal(size=(2, 5, 11)) * 3
LABELS = RANDOM.integers(0, 11, 5)
NUMBERS = RANDOM.normal(size=5)
SEVERAL = RANDOM.uniform(size=(5, 11))  # labels between 0 and 1 are allowed


def softmax(z):
    return np.exp(z) / np.exp(z).sum(-1, keepdims=True)


def soft(z_s, temperature):
    p, q = softmax(Z_T / temperature), softmax(z_s / temperature)
    return temperature**2 * (p * (np.log(p) - np.log(q))).sum(-1)


def hard(z_s):
    return -np.log(softmax(z_s))[np.arange(5), LABELS]


def slopes(f, x, step=1e-5):
    """The gradient of Σ f by central differences, in float64."""
    grad = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += step
        down[i] -= step
        grad[i] = (f(up).sum() - f(down).sum()) / (2 * step)
    return grad


def squared(z_s):
    return (z_s[:, 0] - NUMBERS) ** 2


def several(z_s):
    p = 1 / (1 + np.exp(-z_s))
    return -(SEVERAL * np.log(p) + (1 - SEVERAL) * np.log(1 - p)).sum(-1) / 11


def given(z_s):
    return -(softmax(Z_T) * np.log(softmax(z_s))).sum(-1)


def numbers_of_the_teacher(z_s):
    return ((z_s - Z_T) ** 2).mean(-1)


CASES = {
    "soft at T = 1": (SoftTargets(temperature=1.0), lambda z: soft(z, 1.0)),
    "soft at T = 2": (SoftTargets(temperature=2.0), lambda z: soft(z, 2.0)),
    "soft at T = 5": (SoftTargets(temperature=5.0), lambda z: soft(z, 5.0)),
    "hard": (HardTargets(), hard),
    "squared": (SquaredError(), squared),
    "the teacher's numbers": (LogitMSE(), numbers_of_the_teacher),
    "several": (SeveralLabels(), several),
}
OTHER_LABELS = {SquaredError: NUMBERS, SeveralLabels: SEVERAL}


def ours(loss, z_s):
    labels = jnp.asarray(OTHER_LABELS.get(type(loss), LABELS))
    return loss.answer(z_s[None], jnp.asarray(Z_T, jnp.float32)[None], labels[None])[0]


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient(name):
    loss, reference = CASES[name]
    z = jnp.asarray(Z_S, jnp.float32)
    np.testing.assert_allclose(ours(loss, z), reference(Z_S), rtol=2e-6)
    gradient, wanted = jax.grad(lambda z: ours(loss, z).sum())(z), slopes(reference, Z_S)
    assert np.abs(gradient - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_leaving_out_the_squared_temperature_would_be_seen():
    wanted = slopes(lambda z: soft(z, 2.0), Z_S)
    forgotten = jax.grad(lambda z: ours(SoftTargets(temperature=2.0), z).sum() / 4)(jnp.asarray(Z_S, jnp.float32))
    assert np.abs(forgotten - wanted).max() > 0.5 * np.abs(wanted).max()


def test_kl_is_not_cross_entropy():
    """A teacher against itself has no loss left; cross entropy would leave its entropy."""
    z = jnp.asarray(Z_T, jnp.float32)
    np.testing.assert_allclose(ours(SoftTargets(), z), 0.0, atol=1e-6)
    assert (np.asarray(TEACHER["teacher_entropy"].answer(z, z, None)) > 0.1).all()


@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_extreme_scores_stay_finite(scale):
    for loss in (SoftTargets(), HardTargets(), SeveralLabels()):
        value, gradient = jax.value_and_grad(lambda z, loss=loss: ours(loss, z).sum())(
            jnp.asarray(Z_S * scale, jnp.float32)
        )
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


def hidden_pair():
    h_s, h_t = np.random.default_rng(1).normal(size=(2, 8, 16, 6))
    batch = plain(make_rows())
    outputs = lambda h: Outputs(
        batch=batch, scores=None, hidden=(jnp.asarray(h, jnp.float32),), q=(), k=(), v=(), sees=None
    )
    return h_s, h_t, outputs


def test_cosine():
    h_s, h_t, outputs = hidden_pair()
    reference = lambda h: 1 - (h * h_t).sum(-1) / (np.linalg.norm(h, axis=-1) * np.linalg.norm(h_t, axis=-1))
    values = lambda h: Cosine().values({}, outputs(h), outputs(h_t))
    np.testing.assert_allclose(values(h_s), reference(h_s), atol=1e-6)
    gradient = jax.grad(lambda h: values(h).sum())(jnp.asarray(h_s, jnp.float32))[0, 0]
    wanted = slopes(lambda first: reference(_with(h_s, first)), h_s[0, 0])
    assert np.abs(gradient - wanted).max() <= 1e-5 * np.abs(wanted).max()


def _with(h, first):
    changed = h.copy()
    changed[0, 0] = first
    return changed


def test_metrics_are_what_they_are_called():
    z_s, z_t, y = jnp.asarray(Z_S), jnp.asarray(Z_T), jnp.asarray(LABELS)
    answer = lambda metric: np.asarray(metric.answer(z_s, z_t, y))
    p, q = softmax(Z_T), softmax(Z_S)
    np.testing.assert_array_equal(answer(STUDENT["accuracy"]), Z_S.argmax(-1) == LABELS)
    np.testing.assert_allclose(answer(STUDENT["cross_entropy"]), hard(Z_S), rtol=1e-5)
    np.testing.assert_array_equal(answer(BOTH["teacher_accuracy"]), Z_T.argmax(-1) == LABELS)
    np.testing.assert_array_equal(answer(BOTH["agreement"]), Z_T.argmax(-1) == Z_S.argmax(-1))
    np.testing.assert_allclose(answer(BOTH["kl"]), (p * np.log(p / q)).sum(-1), rtol=1e-5)
    np.testing.assert_allclose(answer(TEACHER["teacher_cross_entropy"]), hard(Z_T), rtol=1e-5)
    np.testing.assert_allclose(answer(TEACHER["teacher_entropy"]), -(p * np.log(p)).sum(-1), rtol=1e-5)


def test_the_two_masks_are_not_one():
    batch = plain(make_rows())
    np.testing.assert_array_equal(SoftTargets().weights(batch), batch.asked)
    np.testing.assert_array_equal(SoftTargets(positions="labelled").weights(batch), batch.weights)
    np.testing.assert_array_equal(HardTargets().weights(batch), batch.weights)
    for loss in (SquaredError(), SeveralLabels()):
        np.testing.assert_array_equal(loss.weights(batch), batch.weights)
    np.testing.assert_array_equal(Cosine().weights(batch), batch.real.astype(np.float32))
    assert batch.asked.sum() > batch.weights.sum() > 0


def test_soft_labels_made_elsewhere():
    answer = lambda z: HardTargets().answer(z, None, jnp.asarray(softmax(Z_T), jnp.float32))
    z_s = jnp.asarray(Z_S, jnp.float32)
    np.testing.assert_allclose(answer(z_s), given(Z_S), rtol=1e-5)
    np.testing.assert_allclose(jax.grad(lambda z: answer(z).sum())(z_s), slopes(given, Z_S), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_answers_that_are_not_allowed_have_no_share(temperature):
    """As if they were not there at all: in the loss of a span, the question and the padding."""
    allowed = np.array([True, False, True, True, False, True, True, False, True, True, False])
    losses = {"soft": SoftTargets(temperature=temperature), "hard": HardTargets()}
    labels = np.array([0, 2, 3, 5, 9])

    def total(z_s, z_t, allowed=None, labels=labels):
        batch = plain(make_rows(b=1)).replace(
            asked=jnp.ones((1, 5)), weights=jnp.ones((1, 5)), labels=jnp.asarray(labels)[None], allowed=allowed
        )
        outputs = lambda z: Outputs(
            batch=batch, scores=jnp.asarray(z, jnp.float32)[None], hidden=(), q=(), k=(), v=(), sees=None
        )
        sums = {name: jnp.float32(5) for name in losses}
        return base.total(losses, {}, {}, outputs(z_s), {"teacher": outputs(z_t)}, sums)[0]

    everywhere = jnp.broadcast_to(jnp.asarray(allowed), (1, 5, 11))
    places = np.cumsum(allowed) - 1
    few = total(Z_S[:, allowed], Z_T[:, allowed], labels=places[labels])
    np.testing.assert_allclose(total(Z_S, Z_T, everywhere), few, rtol=1e-6)
    gradient = jax.grad(total)(jnp.asarray(Z_S, jnp.float32), Z_T, everywhere)
    assert np.isfinite(gradient).all()
    assert (np.asarray(gradient)[:, ~allowed] == 0).all()
    assert abs(total(Z_S, Z_T) - few) > 0.1  # the original ran it over everything
