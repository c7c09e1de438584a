"""All losses over a vocabulary in one pass, block by block, gradient included: the [b p v] matrix never stands in
memory.

Blocks are cut along p inside each row, never along b, which is sharded. Because every coefficient is known beforehand,
a block's gradient is made while its scores are at hand; the backward pass only multiplies by the incoming cotangent.
Any `Answer` works: it is differentiated, not derived by hand.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from distilbert_jax.types import FactoredLogits

Scores = Float[Array, "b p v"]
LogitFunction = Callable[[Scores, Mapping[str, Scores], Int[Array, "b p"]], Float[Array, "b p"]]
"""(student's scores, scores of each teacher, labels) -> one value for each place."""


def rows_per_block(platform: str, dtype: Any) -> int:
    """Rows of scores that stand in memory at once on a device of this platform. Every block reads the table and adds to
    its gradient in memory, so it should be worth it; more than these would take more than some 3 % of what 32 × 512
    rows do. A CPU has scores of bfloat16 in float32, too.
    """
    if jnp.dtype(dtype) == jnp.float32:
        return 256
    return 128 if platform == "cpu" else 512


def blockwise_total(
    functions: Mapping[str, LogitFunction],
    coefficients: Mapping[str, float],
    student: FactoredLogits,
    teachers: Mapping[str, FactoredLogits],
    labels: Int[Array, "b p"],
    weights: Mapping[str, Float[Array, "b p"]],
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Returns (Σ coefficient · mean, {name: mean}), where a mean is Σ weight · value and `weights` are already divided
    by their global sum.

    Answers without a coefficient are looked at, not learned from. The gradient reaches the student's factors and
    nothing else.
    """
    heads = {name: (head.embedding, head.bias) for name, head in teachers.items()}
    features = {name: head.features for name, head in teachers.items()}
    asked = (labels, {name: weights[name] for name in functions})

    def of_block(features_s, shared, features_t, heads, asked):
        labels, weights = asked
        z_s = FactoredLogits(features_s, *shared).to_dense()
        z_t = {name: FactoredLogits(features_t[name], *head).to_dense() for name, head in heads.items()}
        means = {name: jnp.sum(weights[name] * answer(z_s, z_t, labels)) for name, answer in functions.items()}
        return sum((c * means[name] for name, c in coefficients.items()), jnp.zeros(())), means

    zeros = (jnp.zeros(()), {name: jnp.zeros(()) for name in functions})
    return _sum_over_blocks(of_block, zeros)(
        student.features, (student.embedding, student.bias), features, heads, asked
    )


def _cut(x: Shaped[Array, "b p *rest"], rows: int) -> Shaped[Array, "blocks b size *rest"]:
    """Even blocks of at most so many rows of scores; zeros past the end: their weight is 0."""
    b, p, *rest = x.shape
    blocks = -(-p // max(1, rows // b))
    size = -(-p // blocks)
    x = jnp.pad(x, [(0, 0), (0, blocks * size - p)] + [(0, 0)] * len(rest))
    return jnp.moveaxis(x.reshape(b, blocks, size, *rest), 1, 0)


def _joined(x: Shaped[Array, "blocks b size *rest"], p: int) -> Shaped[Array, "b p *rest"]:
    """Back again."""
    blocks, b, size, *rest = x.shape
    return jnp.moveaxis(x, 0, 1).reshape(b, blocks * size, *rest)[:, :p]


def _sum_over_blocks(of_block: Callable[..., Any], zeros: Any) -> Callable[..., Any]:
    """(features, shared, features_t, heads, asked) -> Σ of_block over the blocks; differentiable in the first two,
    once.
    """
    add = lambda a, b: jax.tree.map(jnp.add, a, b)

    def values(rows, features, shared, features_t, heads, asked):
        body = lambda carry, xs: (add(carry, of_block(xs[0], shared, xs[1], heads, xs[2])), None)
        cut = jax.tree.map(lambda x: _cut(x, rows), (features, features_t, asked))
        return jax.lax.scan(body, zeros, cut)[0]

    def gradients(rows, features, shared, features_t, heads, asked):
        def body(carry, xs):
            value, (g_features, g_shared) = jax.value_and_grad(of_block, (0, 1), has_aux=True)(
                xs[0], shared, xs[1], heads, xs[2]
            )
            return add(carry, (value, g_shared)), g_features

        start = (zeros, jax.tree.map(jnp.zeros_like, shared))
        cut = jax.tree.map(lambda x: _cut(x, rows), (features, features_t, asked))
        (value, g_shared), g_features = jax.lax.scan(body, start, cut)
        return value, _joined(g_features, features.shape[1]), g_shared

    @jax.custom_vjp
    def run(*inputs):
        return _by_platform(values, *inputs)

    def forward(*inputs):
        value, g_features, g_shared = _by_platform(gradients, *inputs)
        return value, (g_features, g_shared, inputs[2:])

    def backward(saved, cotangents):
        g_features, g_shared, rest = saved
        scale = lambda x: (cotangents[0] * x).astype(x.dtype)  # the means are for the log
        return scale(g_features), jax.tree.map(scale, g_shared), *jax.tree.map(_no_tangent, rest)

    run.defvjp(forward, backward)
    return run


def _by_platform(f: Callable[..., Any], features: Array, *rest: Any) -> Any:
    """`f` with the rows of the platform that it is compiled for."""
    on = lambda platform: functools.partial(f, rows_per_block(platform, features.dtype))
    return jax.lax.platform_dependent(features, *rest, cpu=on("cpu"), default=on("default"))


def _no_tangent(x: Array) -> Any:
    """What custom_vjp wants for an argument without gradient."""
    return jnp.zeros_like(x) if jnp.issubdtype(x.dtype, jnp.floating) else np.zeros(x.shape, jax.dtypes.float0)
