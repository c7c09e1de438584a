"""Compares losses computed block by block with those of the dense logits, in value, gradient and memory."""

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
FUNCTIONS = {
    "soft": lambda student_logits, teacher_logits, labels: LOSSES["soft"].values_from_logits(
        student_logits, teacher_logits["teacher"], labels
    ),
    "hard": lambda student_logits, teacher_logits, labels: LOSSES["hard"].values_from_logits(
        student_logits, None, labels
    ),
    "variation": lambda student_logits, teacher_logits, labels: LOSSES["variation"].values_from_logits(
        student_logits, teacher_logits["teacher"], labels
    ),
    "accuracy": lambda student_logits, teacher_logits, labels: (student_logits.argmax(-1) == labels).astype(
        jnp.float32
    ),
}
COEFFICIENTS = {name: loss.weight for name, loss in LOSSES.items()}


@functools.cache
def make_inputs(b=3, p=10, v=31):
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
    labelled = jax.random.bernoulli(k[6], 0.3, (b, p)).astype(jnp.float32)
    all_positions = jnp.ones((b, p)) / (b * p)
    weights = {"soft": all_positions, "hard": labelled / 9, "variation": labelled / 9, "accuracy": labelled / 9}
    return student, teacher, labels, weights


def blockwise(student, teacher, labels, weights):
    return blockwise_logits.blockwise_total(FUNCTIONS, COEFFICIENTS, student, {"teacher": teacher}, labels, weights)


def dense(student, teacher, labels, weights):
    student_logits, teacher_logits = student.to_dense(), {"teacher": teacher.to_dense()}
    means = {
        name: jnp.sum(weights[name] * compute(student_logits, teacher_logits, labels))
        for name, compute in FUNCTIONS.items()
    }
    return sum(c * means[name] for name, c in COEFFICIENTS.items()), means


@pytest.mark.parametrize("rows", [1, 3, 9, 12, 1_000])  # 10 predictions in blocks of 1, 1, 3, 4 and all
def test_equals_the_dense_pass(monkeypatch, rows):
    monkeypatch.setattr(blockwise_logits, "predictions_per_block", lambda platform, dtype: rows)
    student, *rest = make_inputs()
    both = [jax.jit(jax.value_and_grad(f, has_aux=True))(student, *rest) for f in (blockwise, dense)]
    assert_close(*both, rtol=1e-5, atol=1e-6)
    assert_close(*(jax.jit(f)(student, *rest) for f in (blockwise, dense)), rtol=1e-5, atol=1e-6)  # without a gradient


def test_a_cotangent_scales_the_gradient():
    student, *rest = make_inputs()
    once, thrice = (jax.jit(jax.grad(lambda s, k=k: k * blockwise(s, *rest)[0]))(student) for k in (1.0, 3.0))
    assert_close(jax.tree.map(lambda x: 3 * x, once), thrice, rtol=1e-5)


def test_no_gradient_reaches_the_teacher():
    student, teacher, labels, weights = make_inputs()
    gradient = jax.jit(jax.grad(lambda t: blockwise(student, t, labels, weights)[0]))(teacher)
    assert all(not np.any(x) for x in jax.tree.leaves(gradient))


@pytest.mark.parametrize("case", ["no predictions", "one prediction", "logits of 1e4"])
def test_edges(monkeypatch, case):
    monkeypatch.setattr(blockwise_logits, "predictions_per_block", lambda platform, dtype: 4)
    student, teacher, labels, weights = make_inputs(1, 1) if case == "one prediction" else make_inputs()
    if case == "no predictions":
        weights = jax.tree.map(jnp.zeros_like, weights)
    if case == "logits of 1e4":
        student = FactoredLogits(features=student.features * 1e4, embedding=student.embedding, bias=student.bias)
    (value, _), gradient = jax.jit(jax.value_and_grad(blockwise, has_aux=True))(student, teacher, labels, weights)
    assert np.isfinite(value)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))
    if case == "no predictions":
        assert value == 0
        assert all(not np.any(x) for x in jax.tree.leaves(gradient))


SIZES = {"b": 4, "p": 64, "v": 300, "d": 32}


def make_rounded_inputs(dtype):
    """Returns student, teacher and labels whose features and embeddings are exact in `dtype`, in float64."""
    random = np.random.default_rng(3)

    def draw(*sizes):
        return np.asarray(jnp.asarray(random.normal(size=sizes), dtype), float)

    b, p, v, d = SIZES.values()
    student, teacher = ((draw(b, p, d), 0.25 * draw(v, d)) for _ in range(2))
    return student, teacher, random.integers(0, v, (b, p))


def embedding_gradient_in_float64(student, teacher, labels):
    """Returns the gradient of 5 · soft + 2 · hard, averaged over all predictions, for the student's embedding."""

    def probabilities(features, embedding, temperature):
        z = features @ embedding.T / temperature
        exponentials = np.exp(z - z.max(-1, keepdims=True))
        return exponentials / exponentials.sum(-1, keepdims=True)

    temperature = LOSSES["soft"].temperature
    soft = temperature * (probabilities(*student, temperature) - probabilities(*teacher, temperature))
    hard = probabilities(*student, 1.0) - np.eye(SIZES["v"])[labels]
    return np.einsum("bpv,bpd->vd", (5 * soft + 2 * hard) / labels.size, student[0])


def embedding_gradient(compute_total, inputs, dtype, embedding_dtype):
    """Returns the same gradient, as `compute_total` gives it for features in `dtype`."""
    (features, embedding), (teacher_features, teacher_embedding), labels = inputs
    weights = jnp.full(labels.shape, 1 / labels.size)
    names = ("soft", "hard")

    def total(embedding):
        zeros = jnp.zeros(SIZES["v"])
        student = FactoredLogits(jnp.asarray(features, dtype), embedding, zeros)
        teacher = FactoredLogits(
            jnp.asarray(teacher_features, dtype), jnp.asarray(teacher_embedding, embedding_dtype), zeros
        )
        return compute_total(
            {name: FUNCTIONS[name] for name in names},
            {name: COEFFICIENTS[name] for name in names},
            student,
            {"teacher": teacher},
            jnp.asarray(labels),
            dict.fromkeys(names, weights),
        )[0]

    return np.asarray(jax.jit(jax.grad(total))(jnp.asarray(embedding, embedding_dtype)), float)


def dense_total(functions, coefficients, student, teachers, labels, weights):
    """Returns the total in one block, whose gradient JAX rounds to the dtype of the embedding."""

    def to_dense(logits):
        return jnp.einsum("bpd,vd->bpv", logits.features, logits.embedding, preferred_element_type=jnp.float32)

    teacher_logits = {name: to_dense(teacher) for name, teacher in teachers.items()}
    means = {
        name: jnp.sum(weights[name] * compute(to_dense(student), teacher_logits, labels))
        for name, compute in functions.items()
    }
    return sum(coefficients[name] * mean for name, mean in means.items()), means


def sum_of_rounded_gradients(inputs, dtype, blocks):
    """Returns the gradient of the embedding summed over blocks in `dtype`: the mistake that the test must notice."""
    (features, embedding), (teacher_features, teacher_embedding), labels = inputs
    total = jnp.zeros(embedding.shape, dtype)
    for cut in np.split(np.arange(labels.shape[1]), blocks):
        student, teacher = (features[:, cut], embedding), (teacher_features[:, cut], teacher_embedding)
        # A power of two, so the division rounds nothing.
        total += jnp.asarray(
            embedding_gradient(dense_total, (student, teacher, labels[:, cut]), dtype, dtype) / blocks, dtype
        )
    return np.asarray(total, float)


@pytest.mark.parametrize("blocks", [1, 4, 16, 64])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_more_blocks_do_not_make_the_gradient_of_the_embedding_less_exact(monkeypatch, dtype, blocks):
    b, p, *_ = SIZES.values()
    monkeypatch.setattr(blockwise_logits, "predictions_per_block", lambda platform, dtype: b * p // blocks)
    inputs = make_rounded_inputs(dtype)
    expected = embedding_gradient_in_float64(*inputs)

    def error(actual):
        return np.linalg.norm(actual - expected) / np.linalg.norm(expected)

    def blockwise_error(embedding_dtype):
        return error(embedding_gradient(blockwise_logits.blockwise_total, inputs, dtype, embedding_dtype))

    one_dense_block = error(embedding_gradient(dense_total, inputs, dtype, dtype))
    assert blockwise_error(dtype) <= 1.1 * one_dense_block
    assert blockwise_error("float32") < 1e-5, "an embedding in float32, as models have it"
    if blocks > 1:
        assert error(sum_of_rounded_gradients(inputs, dtype, blocks)) > 1.3 * one_dense_block


def test_all_logits_are_never_in_memory_together():
    shapes = jax.eval_shape(lambda: make_inputs.__wrapped__(2, 512, 5_000))

    def temporary_bytes(f):
        gradient = jax.jit(jax.grad(lambda *arguments: f(*arguments)[0]))
        return gradient.lower(*shapes).compile().memory_analysis().temp_size_in_bytes

    assert temporary_bytes(blockwise) < 0.35 * temporary_bytes(dense)
