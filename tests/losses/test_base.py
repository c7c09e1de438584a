"""Tests how losses are averaged: divided by the true sum of their weights, however small it is."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distilbert_jax.losses import base
from distilbert_jax.losses.hard_targets import HardTargets
from distilbert_jax.losses.hidden_cosine import HiddenCosine
from distilbert_jax.types import Batch, FactoredLogits, ModelOutputs

ROWS, CLASSES, SIZE = 8, 5, 3
RANDOM = np.random.default_rng(0)
FEATURES, EMBEDDING = RANDOM.normal(size=(ROWS, SIZE)), RANDOM.normal(size=(CLASSES, SIZE))
LABELS = RANDOM.integers(0, CLASSES, ROWS)


def make_outputs(features, label_weights, *, factored):
    """Returns the outputs of a model for rows with one prediction each."""
    batch = Batch.from_tokens(jnp.ones((ROWS, 4), jnp.int32))
    batch = dataclasses.replace(
        batch, labels=jnp.asarray(LABELS)[:, None], label_weights=jnp.asarray(label_weights, jnp.float32)[:, None]
    )
    logits = FactoredLogits(features[:, None], jnp.asarray(EMBEDDING, jnp.float32), jnp.zeros(CLASSES))
    return ModelOutputs(
        batch=batch,
        logits=logits if factored else logits.to_dense(),
        hidden_states=(),
        q=(),
        k=(),
        v=(),
        attention_mask=None,
    )


def mean_and_gradient(label_weights, *, factored):
    """Returns the mean of the hard loss and its gradient for the features, as a training step computes them."""
    losses = {"hard": HardTargets()}

    def compute_mean(features):
        outputs = make_outputs(features, label_weights, factored=factored)
        sums = base.sum_weights(losses, jax.tree.map(lambda x: x[None], outputs.batch))
        return base.total_loss(losses, {}, {"hard": {}}, outputs, {}, sums)[0]

    return jax.value_and_grad(compute_mean)(jnp.asarray(FEATURES, jnp.float32))


def reference(label_weights):
    """Returns both in float64: Σ w · cross entropy / Σ w."""
    logits = FEATURES @ EMBEDDING.T
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    weights = label_weights / label_weights.sum()
    mean = -(weights * np.log(probabilities[np.arange(ROWS), LABELS])).sum()
    return mean, weights[:, None] * (probabilities - np.eye(CLASSES)[LABELS]) @ EMBEDDING


WEIGHTS = {
    "one each": np.ones(ROWS),
    "windows of 1/20": np.full(ROWS, 1 / 20),
    "windows of a very long text": np.full(ROWS, 1e-6),
    "one window among texts without a label": np.eye(ROWS)[3] / 20,
    "windows and texts": np.array([1, 1, 1 / 3, 1 / 3, 1 / 3, 1 / 20, 1 / 20, 1]),
}


@pytest.mark.parametrize("factored", [False, True], ids=["dense", "in blocks"])
@pytest.mark.parametrize("name", WEIGHTS)
def test_a_mean_is_divided_by_the_sum_of_its_weights(name, factored):
    (mean, gradient), (expected, expected_gradient) = (
        mean_and_gradient(WEIGHTS[name], factored=factored),
        reference(WEIGHTS[name]),
    )
    np.testing.assert_allclose(mean, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-6)


def test_a_sum_that_counts_as_at_least_one_would_be_noticed(monkeypatch):
    monkeypatch.setattr(base, "_divide_or_zero", lambda weights, total: weights / jnp.maximum(total, 1.0))
    weights = WEIGHTS["windows of 1/20"]
    np.testing.assert_allclose(mean_and_gradient(weights, factored=False)[0], 0.4 * reference(weights)[0], rtol=1e-5)


@pytest.mark.parametrize("factored", [False, True], ids=["dense", "in blocks"])
def test_without_any_label_mean_and_gradient_are_zero(factored):
    mean, gradient = mean_and_gradient(np.zeros(ROWS), factored=factored)
    assert mean == 0
    assert not np.any(gradient)


def test_a_loss_on_hidden_states_is_divided_alike():
    """Two of eight rows have tokens with a weight, and it is 1/20."""

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class WeightedCosine(HiddenCosine):
        def weights(self, batch):
            return batch.label_weights / 20 * jnp.ones((1, 4))

    outputs = make_outputs(jnp.asarray(FEATURES, jnp.float32), np.eye(ROWS)[:2].sum(0), factored=False)
    student, teacher = RANDOM.normal(size=(2, ROWS, 4, SIZE))
    losses = {"cosine": WeightedCosine()}
    sums = base.sum_weights(losses, jax.tree.map(lambda x: x[None], outputs.batch))
    with_hidden = (
        dataclasses.replace(outputs, hidden_states=(jnp.asarray(h, jnp.float32),)) for h in (student, teacher)
    )
    student_outputs, teacher_outputs = with_hidden
    mean, _ = base.total_loss(losses, {}, {"cosine": {}}, student_outputs, {"teacher": teacher_outputs}, sums)
    norms = np.linalg.norm(student, axis=-1) * np.linalg.norm(teacher, axis=-1)
    expected = (1 - (student * teacher).sum(-1) / norms)[:2].mean()
    np.testing.assert_allclose(mean, expected, rtol=1e-5)
