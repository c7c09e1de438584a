"""Matrix products with rounded operands and float32 sums, in the forward and in the backward pass.

JAX's own gradient of a product of bfloat16 operands with a float32 result would multiply the float32 cotangent by a
bfloat16 operand, at half the speed. Here the cotangent is rounded first, like the operands.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

TRANSPOSE_BLOCK_ROWS = 8
"""Rows of the blocks in which `_copy_transposed` moves a matrix."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def matmul(x: Float[Array, "t d"], kernel: Float[Array, "d f"], dtype: Any) -> Float[Array, "t f"]:
    """Returns x · kernel in float32.

    Args:
        x: the left operand.
        kernel: the right operand.
        dtype: the type to which the operands, and in the backward pass the cotangent, are rounded.
    """
    return _dot(x.astype(dtype), kernel.astype(dtype), 0)


def _matmul_forward(x: Array, kernel: Array, dtype: Any) -> tuple[Array, tuple[Array, Array]]:
    """Returns the product, and the operands for the backward pass."""
    return matmul(x, kernel, dtype), (x, kernel)


def _matmul_backward(dtype: Any, operands: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    """Returns the gradients of both operands."""
    (x, kernel), cotangent = operands, cotangent.astype(dtype)
    x_grad = _dot(cotangent, kernel.astype(dtype), 1)
    kernel_grad = _dot(_transpose(x.astype(dtype)), cotangent, 0)
    return x_grad.astype(x.dtype), kernel_grad.astype(kernel.dtype)


matmul.defvjp(_matmul_forward, _matmul_backward)


def _dot(a: Array, b: Array, contracted: int) -> Array:
    """Returns the product over the last axis of `a` and the axis `contracted` of `b`, in float32."""
    return jax.lax.dot_general(a, b, (((1,), (contracted,)), ((), ())), preferred_element_type=jnp.float32)


def _transpose(x: Float[Array, "t d"]) -> Float[Array, "d t"]:
    """Returns the transpose of `x`. On a CPU, one of bfloat16 is copied.

    The matrix units of a CPU read rows. Without the copy, XLA multiplies by a view, at a fifth of the speed.
    """
    if x.shape[0] % TRANSPOSE_BLOCK_ROWS or x.dtype == jnp.float32:
        return x.T
    return jax.lax.platform_dependent(x, cpu=_copy_transposed, default=jnp.transpose)


def _copy_transposed(x: Array) -> Array:
    """Returns a transposed copy of `x`."""
    barrier = jax.lax.optimization_barrier
    # Without blocks and barriers, XLA would make a view instead of a copy.
    blocks = barrier(x.reshape(-1, TRANSPOSE_BLOCK_ROWS, x.shape[1]))
    return barrier(barrier(blocks.transpose(2, 0, 1)).reshape(x.shape[1], x.shape[0]))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 3))
def einsum(spec: str, a: Float[Array, "..."], b: Float[Array, "..."], dtype: Any) -> Float[Array, "..."]:
    """Returns the einsum of two operands in float32.

    Args:
        spec: "A,B->C", where every index is in exactly two of A, B and C.
        a: the first operand.
        b: the second operand.
        dtype: the type to which the operands, and in the backward pass the cotangent, are rounded.
    """
    native: Callable[..., Array] = functools.partial(jnp.einsum, spec, preferred_element_type=jnp.float32)
    a, b = a.astype(dtype), b.astype(dtype)
    if a.dtype == jnp.float32:
        return native(a, b)

    # On a CPU, XLA has no batched products of bfloat16 for some orders of the axes. The products of the same values in
    # float32 have the same sums.
    def widened(a: Array, b: Array) -> Array:
        return native(a.astype(jnp.float32), b.astype(jnp.float32))

    return jax.lax.platform_dependent(a, b, cpu=widened, default=native)


def _einsum_forward(spec: str, a: Array, b: Array, dtype: Any) -> tuple[Array, tuple[Array, Array]]:
    """Returns the einsum, and the operands for the backward pass."""
    return einsum(spec, a, b, dtype), (a, b)


def _einsum_backward(spec: str, dtype: Any, operands: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    """Returns the gradients of both operands. Each is an einsum of the cotangent and the other operand."""
    inputs, c_indices = spec.split("->")
    a_indices, b_indices = inputs.split(",")
    a, b = operands
    return (
        einsum(f"{c_indices},{b_indices}->{a_indices}", cotangent, b, dtype).astype(a.dtype),
        einsum(f"{c_indices},{a_indices}->{b_indices}", cotangent, a, dtype).astype(b.dtype),
    )


einsum.defvjp(_einsum_forward, _einsum_backward)
