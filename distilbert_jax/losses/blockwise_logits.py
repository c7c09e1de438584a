"""Computes all losses that read logits over a vocabulary in one pass, block by block, with their gradient.

The logits of a batch, [b, p, v], would not fit into memory. They are computed for one block of predictions at a time,
and each block is reduced to a few sums before the next one. Blocks are cut along p inside each row, and not along b,
which is sharded over devices.

The factor of every loss in the objective is known in advance (see `losses/base.py`). The forward pass can therefore
compute the gradient of a block while its logits exist, and the backward pass only multiplies it by the incoming
cotangent. JAX differentiates the losses, so any `LogitFunction` works.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from distilbert_jax.types import FactoredLogits

Logits = Float[Array, "b p v"]
LogitFunction = Callable[[Logits, Mapping[str, Logits], Int[Array, "b p"]], Float[Array, "b p"]]
"""(student's logits, logits of each teacher by name, labels) -> one value for each prediction."""


def predictions_per_block(platform: str, dtype: Any) -> int:
    """Returns for how many predictions logits are computed at once on a device of this platform.

    Every block reads the embedding and adds to its gradient, so small blocks cost memory traffic, and large ones cost
    memory: these need at most about 3 % of what a batch of 32 × 512 tokens needs. The CPU has a smaller block for
    bfloat16, because it computes these logits in float32, too.
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
    """Returns (Σ coefficient · mean, {name: mean}), where the mean of a function is Σ weight · value.

    The gradient of the first result reaches `student` only.

    Args:
        functions: what to compute from the logits, by name.
        coefficients: the factor of each function in the total. A function without one is only reported.
        student: the student's logits, as factors.
        teachers: the logits of each teacher, as factors, by name.
        labels: the labels, [b, p].
        weights: the weights of each function's values, already divided by their sum over the global batch.
    """
    teacher_heads = {name: (teacher.embedding, teacher.bias) for name, teacher in teachers.items()}
    teacher_features = {name: teacher.features for name, teacher in teachers.items()}
    targets = (labels, {name: weights[name] for name in functions})

    def per_block(features, head, teacher_features, teacher_heads, targets):
        labels, weights = targets
        student_logits = FactoredLogits(features, *head).to_dense()
        teacher_logits = {
            name: FactoredLogits(teacher_features[name], *teacher_head).to_dense()
            for name, teacher_head in teacher_heads.items()
        }
        means = {
            name: jnp.sum(weights[name] * compute(student_logits, teacher_logits, labels))
            for name, compute in functions.items()
        }
        return sum((c * means[name] for name, c in coefficients.items()), jnp.zeros(())), means

    zeros = (jnp.zeros(()), {name: jnp.zeros(()) for name in functions})
    return _sum_over_blocks(per_block, zeros)(
        student.features, (student.embedding, student.bias), teacher_features, teacher_heads, targets
    )


def _split_into_blocks(x: Shaped[Array, "b p *rest"], max_predictions: int) -> Shaped[Array, "blocks b size *rest"]:
    """Returns `x` in blocks of equal size.

    A block has `size` predictions of every row of the batch, together at most `max_predictions` or else `size` is 1.
    The last block is padded with zeros, weights included, so the padding adds nothing to the sums.
    """
    b, p, *rest = x.shape
    blocks = -(-p // max(1, max_predictions // b))
    size = -(-p // blocks)
    x = jnp.pad(x, [(0, 0), (0, blocks * size - p)] + [(0, 0)] * len(rest))
    return jnp.moveaxis(x.reshape(b, blocks, size, *rest), 1, 0)


def _join_blocks(x: Shaped[Array, "blocks b size *rest"], p: int) -> Shaped[Array, "b p *rest"]:
    """Returns the blocks in one array, without padding: the inverse of `_split_into_blocks`."""
    blocks, b, size, *rest = x.shape
    return jnp.moveaxis(x, 0, 1).reshape(b, blocks * size, *rest)[:, :p]


def _sum_over_blocks(per_block: Callable[..., Any], zeros: Any) -> Callable[..., Any]:
    """Returns the function (features, head, teacher_features, teacher_heads, targets) -> Σ `per_block` over all blocks.

    It can be differentiated once, with respect to `features` and `head`.

    Args:
        per_block: a function of one block with the same arguments, which returns (total, means).
        zeros: the result of `per_block` for no predictions, where the sum starts.
    """

    def add(a, b):
        return jax.tree.map(jnp.add, a, b)

    def split(block_size, *trees):
        return jax.tree.map(lambda x: _split_into_blocks(x, block_size), trees)

    def compute_values(block_size, features, head, teacher_features, teacher_heads, targets):
        """Returns the sum alone, for a call that is not differentiated."""

        def body(carry, block):
            block_features, block_teacher_features, block_targets = block
            value = per_block(block_features, head, block_teacher_features, teacher_heads, block_targets)
            return add(carry, value), None

        return jax.lax.scan(body, zeros, split(block_size, features, teacher_features, targets))[0]

    def compute_gradients(block_size, features, head, teacher_features, teacher_heads, targets):
        """Returns the sum and its gradients with respect to `features` and `head`, the latter in float32."""
        # A sum over blocks in bfloat16 would lose more with every block.
        head = jax.tree.map(lambda x: x.astype(jnp.float32), head)

        def body(carry, block):
            block_features, block_teacher_features, block_targets = block
            value, (features_grad, head_grad) = jax.value_and_grad(per_block, (0, 1), has_aux=True)(
                block_features, head, block_teacher_features, teacher_heads, block_targets
            )
            return add(carry, (value, head_grad)), features_grad

        start = (zeros, jax.tree.map(jnp.zeros_like, head))
        blocks = split(block_size, features, teacher_features, targets)
        (value, head_grad), features_grad = jax.lax.scan(body, start, blocks)
        return value, _join_blocks(features_grad, features.shape[1]), head_grad

    @jax.custom_vjp
    def run(*inputs):
        return _with_block_size_of_platform(compute_values, *inputs)

    def forward(*inputs):
        value, features_grad, head_grad = _with_block_size_of_platform(compute_gradients, *inputs)
        return value, (features_grad, head_grad, inputs)

    def backward(saved, cotangents):
        features_grad, head_grad, (features, head, *other_inputs) = saved

        # Only the cotangent of the total counts: the means are for the log.
        def scale(grad, x):
            return (cotangents[0] * grad).astype(x.dtype)

        return (
            scale(features_grad, features),
            jax.tree.map(scale, head_grad, head),
            *jax.tree.map(_zero_cotangent, other_inputs),
        )

    run.defvjp(forward, backward)
    return run


def _with_block_size_of_platform(function: Callable[..., Any], features: Array, *rest: Any) -> Any:
    """Returns `function(block_size, features, *rest)`, with the block size of the platform that it is compiled for."""

    def on_platform(platform):
        return functools.partial(function, predictions_per_block(platform, features.dtype))

    return jax.lax.platform_dependent(features, *rest, cpu=on_platform("cpu"), default=on_platform("default"))


def _zero_cotangent(x: Array) -> Any:
    """Returns what `jax.custom_vjp` requires as the cotangent of an argument without gradient."""
    return jnp.zeros_like(x) if jnp.issubdtype(x.dtype, jnp.floating) else np.zeros(x.shape, jax.dtypes.float0)
