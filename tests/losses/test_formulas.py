"""Every loss of score rows and of hidden states against float64, written straight from the paper: value and
gradient.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
    "squared": (RegressionMSE(), squared),
    "the teacher's numbers": (LogitMSE(), numbers_of_the_teacher),
    "several": (MultiLabel(), several),
}
OTHER_LABELS = {RegressionMSE: NUMBERS, MultiLabel: SEVERAL}


def ours(loss, z_s):
    labels = jnp.asarray(OTHER_LABELS.get(type(loss), LABELS))
    return loss.values_from_logits(z_s[None], jnp.asarray(Z_T, jnp.float32)[None], labels[None])[0]


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
    assert (np.asarray(TEACHER_METRICS["teacher_entropy"].values_from_logits(z, z, None)) > 0.1).all()


@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_extreme_scores_stay_finite(scale):
    for loss in (SoftTargets(), HardTargets(), MultiLabel()):
        value, gradient = jax.value_and_grad(lambda z, loss=loss: ours(loss, z).sum())(
            jnp.asarray(Z_S * scale, jnp.float32)
        )
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


def hidden_pair():
    h_s, h_t = np.random.default_rng(1).normal(size=(2, 8, 16, 6))
    batch = plain(make_rows())
    outputs = lambda h: ModelOutputs(
        batch=batch, logits=None, hidden_states=(jnp.asarray(h, jnp.float32),), q=(), k=(), v=(), attention_mask=None
    )
    return h_s, h_t, outputs


def test_cosine():
    h_s, h_t, outputs = hidden_pair()
    reference = lambda h: 1 - (h * h_t).sum(-1) / (np.linalg.norm(h, axis=-1) * np.linalg.norm(h_t, axis=-1))
    values = lambda h: HiddenCosine().values({}, outputs(h), outputs(h_t))
    np.testing.assert_allclose(values(h_s), reference(h_s), atol=1e-6)
    gradient = jax.grad(lambda h: values(h).sum())(jnp.asarray(h_s, jnp.float32))[0, 0]
    wanted = slopes(lambda first: reference(_at(h_s, (0, 0), first)), h_s[0, 0])
    assert np.abs(gradient - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("size", [6, 4], ids=["same size", "projected"])
def test_hidden_mse(size):
    """Two layers of the student against the second and the fourth of the teacher, the embeddings left out."""
    random = np.random.default_rng(2)
    ours, theirs = random.normal(size=(3, 8, 16, 6)), random.normal(size=(5, 8, 16, size))
    loss = HiddenMSE()
    params = loss.init_params(jax.random.key(0), student_size=6, teacher_size=size)
    assert set(params) == (set() if size == 6 else {"kernel"})
    w = np.asarray(params["kernel"], float) if params else np.eye(6)
    reference = lambda h: sum(((a @ w - b) ** 2).mean(-1) for a, b in zip(h[1:], theirs[2::2], strict=True)) / 2
    batch = plain(make_rows())
    outputs = lambda h: ModelOutputs(
        batch=batch,
        logits=None,
        hidden_states=tuple(jnp.asarray(x, jnp.float32) for x in h),
        q=(),
        k=(),
        v=(),
        attention_mask=None,
    )
    values = lambda h, params: loss.values(params, outputs(h), outputs(theirs))
    np.testing.assert_allclose(values(ours, params), reference(ours), rtol=1e-5)
    wrong = sum(((a @ w - b) ** 2).mean(-1) for a, b in zip(ours[1:], theirs[1:3], strict=True)) / 2
    assert np.abs(reference(ours) - wrong).max() > 0.1  # the first layers instead of the evenly spaced ones

    gradient = jax.grad(lambda h: values(h, params).sum())(jnp.asarray(ours, jnp.float32))[1, 0, 0]
    wanted = slopes(lambda part: reference(_at(ours, (1, 0, 0), part)), ours[1, 0, 0])
    assert np.abs(gradient - wanted).max() <= 1e-5 * np.abs(wanted).max()
    np.testing.assert_array_equal(loss.weights(batch), batch.token_mask)
    if params:
        assert np.abs(jax.grad(lambda p: values(ours, p).sum())(params)["kernel"]).max() > 0


@pytest.mark.parametrize("layers", [(1, 5), (0, 2), (2,)])
def test_hidden_mse_of_layers_that_are_not_there(layers):
    with pytest.raises(ValueError, match="write one of the teacher's layers, 1 to 4, for each of the student's 2"):
        HiddenMSE(layers=layers).teacher_layers(student_layers=2, teacher_layers=4)
    assert HiddenMSE().teacher_layers(student_layers=6, teacher_layers=12) == (2, 4, 6, 8, 10, 12)
    assert HiddenMSE(layers=(4, 4)).teacher_layers(student_layers=2, teacher_layers=4) == (4, 4)


def _at(h, place, part):
    changed = h.copy()
    changed[place] = part
    return changed
