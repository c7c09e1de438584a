"""Compares the value and the gradient of every loss with float64 formulas written from the papers."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distilbert_jax.losses.base import ModelSizes
from distilbert_jax.losses.hard_targets import HardTargets
from distilbert_jax.losses.hidden_cosine import HiddenCosine
from distilbert_jax.losses.hidden_mse import HiddenMSE
from distilbert_jax.losses.logit_mse import LogitMSE
from distilbert_jax.losses.metrics import TEACHER_METRICS
from distilbert_jax.losses.multi_label import MultiLabel
from distilbert_jax.losses.regression_mse import RegressionMSE
from distilbert_jax.losses.soft_targets import SoftTargets
from distilbert_jax.types import ModelOutputs
from tests.helpers.batches import make_rows, plain

RANDOM = np.random.default_rng(0)
STUDENT_LOGITS, TEACHER_LOGITS = RANDOM.normal(size=(2, 5, 11)) * 3
LABELS = RANDOM.integers(0, 11, 5)
NUMERIC_LABELS = RANDOM.normal(size=5)
MULTI_LABELS = RANDOM.uniform(size=(5, 11))  # labels between 0 and 1 are allowed


def softmax(z):
    return np.exp(z) / np.exp(z).sum(-1, keepdims=True)


def soft_targets(student_logits, temperature):
    p, q = softmax(TEACHER_LOGITS / temperature), softmax(student_logits / temperature)
    return temperature**2 * (p * (np.log(p) - np.log(q))).sum(-1)


def hard_targets(student_logits):
    return -np.log(softmax(student_logits))[np.arange(5), LABELS]


def finite_differences(f, x, step=1e-5):
    """Returns the gradient of Σ f by central differences, in float64."""
    gradient = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += step
        down[i] -= step
        gradient[i] = (f(up).sum() - f(down).sum()) / (2 * step)
    return gradient


def regression_mse(student_logits):
    return (student_logits[:, 0] - NUMERIC_LABELS) ** 2


def multi_label(student_logits):
    p = 1 / (1 + np.exp(-student_logits))
    return -(MULTI_LABELS * np.log(p) + (1 - MULTI_LABELS) * np.log(1 - p)).sum(-1) / 11


def logit_mse(student_logits):
    return ((student_logits - TEACHER_LOGITS) ** 2).mean(-1)


CASES = {
    "soft at T = 1": (SoftTargets(temperature=1.0), lambda z: soft_targets(z, 1.0)),
    "soft at T = 2": (SoftTargets(temperature=2.0), lambda z: soft_targets(z, 2.0)),
    "soft at T = 5": (SoftTargets(temperature=5.0), lambda z: soft_targets(z, 5.0)),
    "hard": (HardTargets(), hard_targets),
    "regression MSE": (RegressionMSE(), regression_mse),
    "logit MSE": (LogitMSE(), logit_mse),
    "multi-label": (MultiLabel(), multi_label),
}
OTHER_LABELS = {RegressionMSE: NUMERIC_LABELS, MultiLabel: MULTI_LABELS}


def compute_values(loss, student_logits):
    labels = jnp.asarray(OTHER_LABELS.get(type(loss), LABELS))
    teacher_logits = jnp.asarray(TEACHER_LOGITS, jnp.float32)
    return loss.values_from_logits(student_logits[None], teacher_logits[None], labels[None])[0]


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient(name):
    loss, reference = CASES[name]
    z = jnp.asarray(STUDENT_LOGITS, jnp.float32)
    np.testing.assert_allclose(compute_values(loss, z), reference(STUDENT_LOGITS), rtol=2e-6)
    gradient = jax.grad(lambda z: compute_values(loss, z).sum())(z)
    expected = finite_differences(reference, STUDENT_LOGITS)
    assert np.abs(gradient - expected).max() <= 1e-5 * np.abs(expected).max()


def test_a_loss_without_the_squared_temperature_would_fail():
    expected = finite_differences(lambda z: soft_targets(z, 2.0), STUDENT_LOGITS)
    loss, z = SoftTargets(temperature=2.0), jnp.asarray(STUDENT_LOGITS, jnp.float32)
    unscaled = jax.grad(lambda z: compute_values(loss, z).sum() / 4)(z)
    assert np.abs(unscaled - expected).max() > 0.5 * np.abs(expected).max()


def test_kl_is_not_cross_entropy():
    """A teacher compared with itself has a loss of 0; with a cross entropy it would be its entropy."""
    z = jnp.asarray(TEACHER_LOGITS, jnp.float32)
    np.testing.assert_allclose(compute_values(SoftTargets(), z), 0.0, atol=1e-6)
    assert (np.asarray(TEACHER_METRICS["teacher_entropy"].values_from_logits(z, z, None)) > 0.1).all()


@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_extreme_logits_stay_finite(scale):
    for loss in (SoftTargets(), HardTargets(), MultiLabel()):
        value, gradient = jax.value_and_grad(lambda z, loss=loss: compute_values(loss, z).sum())(
            jnp.asarray(STUDENT_LOGITS * scale, jnp.float32)
        )
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


def make_outputs(batch, hidden_states):
    """Returns the outputs of a model with these hidden states and nothing else."""
    hidden_states = tuple(jnp.asarray(h, jnp.float32) for h in hidden_states)
    return ModelOutputs(batch=batch, logits=None, hidden_states=hidden_states, q=(), k=(), v=(), attention_mask=None)


def make_hidden_pair():
    """Returns hidden states of student and teacher, [b, t, d], and the function from them to outputs of a model."""
    student_hidden, teacher_hidden = np.random.default_rng(1).normal(size=(2, 8, 16, 6))
    return student_hidden, teacher_hidden, lambda h: make_outputs(plain(make_rows()), [h])


def test_cosine():
    student_hidden, teacher_hidden, outputs = make_hidden_pair()

    def reference(h):
        return 1 - (h * teacher_hidden).sum(-1) / (np.linalg.norm(h, axis=-1) * np.linalg.norm(teacher_hidden, axis=-1))

    def values(h):
        return HiddenCosine().values({}, outputs(h), outputs(teacher_hidden))

    np.testing.assert_allclose(values(student_hidden), reference(student_hidden), atol=1e-6)
    gradient = jax.grad(lambda h: values(h).sum())(jnp.asarray(student_hidden, jnp.float32))[0, 0]
    expected = finite_differences(
        lambda first: reference(_replace(student_hidden, (0, 0), first)), student_hidden[0, 0]
    )
    assert np.abs(gradient - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("size", [6, 4], ids=["same size", "projected"])
def test_hidden_mse(size):
    """The student's two layers are compared with the teacher's second and fourth, and the embeddings are left out."""
    random = np.random.default_rng(2)
    student_hidden, teacher_hidden = random.normal(size=(3, 8, 16, 6)), random.normal(size=(5, 8, 16, size))
    loss = HiddenMSE()
    params = loss.init_params(jax.random.key(0), student_size=6, teacher_size=size)
    assert set(params) == (set() if size == 6 else {"kernel"})
    w = np.asarray(params["kernel"], float) if params else np.eye(6)

    def reference(h):
        return sum(((a @ w - b) ** 2).mean(-1) for a, b in zip(h[1:], teacher_hidden[2::2], strict=True)) / 2

    batch = plain(make_rows())

    def outputs(h):
        return make_outputs(batch, h)

    def values(h, params):
        return loss.values(params, outputs(h), outputs(teacher_hidden))

    np.testing.assert_allclose(values(student_hidden, params), reference(student_hidden), rtol=1e-5)
    wrong = sum(((a @ w - b) ** 2).mean(-1) for a, b in zip(student_hidden[1:], teacher_hidden[1:3], strict=True)) / 2
    assert np.abs(reference(student_hidden) - wrong).max() > 0.1  # the first layers instead of the evenly spaced ones

    gradient = jax.grad(lambda h: values(h, params).sum())(jnp.asarray(student_hidden, jnp.float32))[1, 0, 0]
    expected = finite_differences(
        lambda part: reference(_replace(student_hidden, (1, 0, 0), part)), student_hidden[1, 0, 0]
    )
    assert np.abs(gradient - expected).max() <= 1e-5 * np.abs(expected).max()
    np.testing.assert_array_equal(loss.weights(batch), batch.token_mask)
    if params:
        assert np.abs(jax.grad(lambda p: values(student_hidden, p).sum())(params)["kernel"]).max() > 0


@pytest.mark.parametrize("layers", [(1, 5), (0, 2), (2,)])
def test_hidden_mse_refuses_layers_that_do_not_fit(layers):
    with pytest.raises(
        ValueError, match="Write one of the teacher's layers, 1 to 4, for each of the student's 2 layers"
    ):
        HiddenMSE(layers=layers).teacher_layers(student_layers=2, teacher_layers=4)
    assert HiddenMSE().teacher_layers(student_layers=6, teacher_layers=12) == (2, 4, 6, 8, 10, 12)
    assert HiddenMSE(layers=(4, 4)).teacher_layers(student_layers=2, teacher_layers=4) == (4, 4)


@pytest.mark.parametrize("layers", [(4, 2, 4), (1, 3, 2), (3, 2, 1)])
def test_hidden_mse_refuses_layers_that_fall(layers):
    sizes = (ModelSizes(hidden_size=8, num_layers=n) for n in (3, 4))
    with pytest.raises(ValueError, match=r"HiddenMSE.layers is \(., ., .\), in which . follows .\. .* in rising order"):
        HiddenMSE(layers=layers).check_models(*sizes)


DEPTHS = [(student, teacher) for student in range(1, 13) for teacher in (1, 2, 3, 4, 6, 12)]


def wrong_layers(mapped, teacher_layers):
    """Returns what is wrong with a map from layers of the student to layers of the teacher, or None."""
    if min(mapped) < 1 or max(mapped) > teacher_layers or mapped[-1] != teacher_layers:
        return "a layer that does not exist, or the last layers are not compared"
    if list(mapped) != sorted(mapped):
        return "it falls"
    exact = [Fraction((i + 1) * teacher_layers, len(mapped)) for i in range(len(mapped))]
    if any(not 0 <= layer - position < 1 for layer, position in zip(mapped, exact, strict=True)):
        return "not the next layer up"
    return None


@pytest.mark.parametrize(("student", "teacher"), DEPTHS)
def test_hidden_mse_compares_with_the_next_layer_up(student, teacher):
    mapped = HiddenMSE().teacher_layers(student_layers=student, teacher_layers=teacher)
    assert wrong_layers(mapped, teacher) is None


def test_rounding_to_the_nearest_layer_would_be_noticed():
    """It compares the first layer of a student twice as deep as its teacher with layer 0, the embeddings."""

    def nearest(student, teacher):
        return tuple(round((i + 1) * teacher / student) for i in range(student))

    assert nearest(4, 2)[0] == 0
    assert wrong_layers(nearest(4, 2), 2) is not None
    assert wrong_layers(nearest(12, 12), 12) is None


def test_hidden_mse_of_a_student_twice_as_deep():
    """Four layers of the student are compared with 1, 1, 2, 2 of the teacher, and none with its embeddings."""
    random = np.random.default_rng(2)
    student_hidden, teacher_hidden = random.normal(size=(5, 8, 16, 6)), random.normal(size=(3, 8, 16, 6))
    batch = plain(make_rows())
    actual = HiddenMSE().values({}, *(make_outputs(batch, h) for h in (student_hidden, teacher_hidden)))
    errors = [((student_hidden[i] - teacher_hidden[layer]) ** 2).mean(-1) for i, layer in enumerate((1, 1, 2, 2), 1)]
    np.testing.assert_allclose(actual, sum(errors) / 4, rtol=1e-5)
    for mistake in (0, -1):  # the embeddings or the last layer for the first layer of the student
        wrong = [((student_hidden[1] - teacher_hidden[mistake]) ** 2).mean(-1), *errors[1:]]
        assert np.abs(actual - sum(wrong) / 4).max() > 0.1


def _replace(hidden, index, part):
    """Returns a copy of `hidden` with `part` at `index`."""
    changed = hidden.copy()
    changed[index] = part
    return changed
