"""The blockwise pass against the dense one, and what it must not do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distilbert_jax.losses import blockwise_logits
from distilbert_jax.losses.hard_targets import HardTargets
from distilbert_jax.losses.soft_targets import SoftTargets
from distilbert_jax.types import FactoredLogits
from tests.helpers.batches import assert_close
from tests.helpers.variation import TotalVariation

LOSSES = {"soft": SoftTargets(weight=5.0), "hard": HardTargets(weight=2.0), "variation": TotalVariation(weight=3.0)}
ANSWERS = {
    "soft": lambda z_s, z_t, y: LOSSES["soft"].values_from_logits(z_s, z_t["teacher"], y),
    "hard": lambda z_s, z_t, y: LOSSES["hard"].values_from_logits(z_s, None, y),
    "variation": lambda z_s, z_t, y: LOSSES["variation"].values_from_logits(z_s, z_t["teacher"], y),
    "accuracy": lambda z_s, z_t, y: (z_s.argmax(-1) == y).astype(jnp.float32),
}
COEFFICIENTS = {name: loss.weight for name, loss in LOSSES.items()}


@functools.cache
def inputs(b=3, p=10, v=31):
    k = jax.random.split(jax.random.key(0), 7)
    student = FactoredLogits(
        features=jax.random.normal(k[0], (b, p, 8)),
        embedding=jax.random.normal(k[1], (v, 8)),
        bias=jax.random.normal(k[2], (v,)),
    )
    teacher = FactoredLogits(
        features=jax.random.normal(k[3], (b, p, 6)), embedding=jax.random.normal(k[4], (v, 6)), bias=jnp.zeros(v)
    )
    labels = jax.random.randint(k[5], (b, p), 0, v)
    chosen = jax.random.bernoulli(k[6], 0.3, (b, p)).astype(jnp.float32)
    everywhere = jnp.ones((b, p)) / (b * p)
    on = {"soft": everywhere, "hard": chosen / 9, "variation": chosen / 9, "accuracy": chosen / 9}
    return student, teacher, labels, on


def blockwise(student, teacher, labels, weights):
    return blockwise_logits.blockwise_total(ANSWERS, COEFFICIENTS, student, {"teacher": teacher}, labels, weights)


def dense(student, teacher, labels, weights):
    z_s, z_t = student.to_dense(), {"teacher": teacher.to_dense()}
    means = {name: jnp.sum(weights[name] * answer(z_s, z_t, labels)) for name, answer in ANSWERS.items()}
    return sum(c * means[name] for name, c in COEFFICIENTS.items()), means


@pytest.mark.parametrize("rows", [1, 3, 9, 12, 1_000])  # 10 places in blocks of 1, 1, 3, 4 and all
def test_equals_the_dense_pass(monkeypatch, rows):
    monkeypatch.setattr(blockwise_logits, "rows_per_block", lambda platform, dtype: rows)
    student, *rest = inputs()
    both = [jax.jit(jax.value_and_grad(f, has_aux=True))(student, *rest) for f in (blockwise, dense)]
    assert_close(*both, rtol=1e-5, atol=1e-6)
    assert_close(*(jax.jit(f)(student, *rest) for f in (blockwise, dense)), rtol=1e-5, atol=1e-6)  # without a gradient


def test_a_cotangent_scales_the_gradient():
    student, *rest = inputs()
    once, thrice = (jax.jit(jax.grad(lambda s, k=k: k * blockwise(s, *rest)[0]))(student) for k in (1.0, 3.0))
    assert_close(jax.tree.map(lambda x: 3 * x, once), thrice, rtol=1e-5)


def test_no_gradient_reaches_the_teacher():
    student, teacher, labels, weights = inputs()
    gradient = jax.jit(jax.grad(lambda t: blockwise(student, t, labels, weights)[0]))(teacher)
    assert all(not np.any(x) for x in jax.tree.leaves(gradient))


@pytest.mark.parametrize("case", ["nothing asked", "one place", "scores of 1e4"])
def test_edges(monkeypatch, case):
    monkeypatch.setattr(blockwise_logits, "rows_per_block", lambda platform, dtype: 4)
    student, teacher, labels, weights = inputs(1, 1) if case == "one place" else inputs()
    if case == "nothing asked":
        weights = jax.tree.map(jnp.zeros_like, weights)
    if case == "scores of 1e4":
        student = FactoredLogits(features=student.features * 1e4, embedding=student.embedding, bias=student.bias)
    (value, _), gradient = jax.jit(jax.value_and_grad(blockwise, has_aux=True))(student, teacher, labels, weights)
    assert np.isfinite(value)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))
    if case == "nothing asked":
        assert value == 0
        assert all(not np.any(x) for x in jax.tree.leaves(gradient))


def test_the_matrix_of_all_scores_never_stands_in_memory():
    shapes = jax.eval_shape(lambda: inputs.__wrapped__(2, 512, 5_000))
    gradient = lambda f: jax.jit(jax.grad(lambda *arguments: f(*arguments)[0]))
    temporary = lambda f: gradient(f).lower(*shapes).compile().memory_analysis().temp_size_in_bytes
    assert temporary(blockwise) < 0.35 * temporary(dense)
