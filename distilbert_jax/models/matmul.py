"""Products of operands rounded to the computation's type, summed in float32, forward and backward.

Autodiff of a product of bfloat16 into float32 would multiply the float32 cotangent with a bfloat16 operand, at half the
speed. Here the cotangent is rounded first, as the operands are.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

BLOCK_ROWS = 8  # of a block that is moved as a whole


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def matmul(x: Float[Array, "t d"], kernel: Float[Array, "d f"], dtype: Any) -> Float[Array, "t f"]:
    """X · kernel."""
    return _dot(x.astype(dtype), kernel.astype(dtype), 0)


def _of_matrices(dtype: Any, operands: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    (x, kernel), g = operands, g.astype(dtype)
    of_x = _dot(g, kernel.astype(dtype), 1)
    of_kernel = _dot(_turned(x.astype(dtype)), g, 0)
    return of_x.astype(x.dtype), of_kernel.astype(kernel.dtype)


matmul.defvjp(lambda x, kernel, dtype: (matmul(x, kernel, dtype), (x, kernel)), _of_matrices)


def _dot(a: Array, b: Array, contracted: int) -> Array:
    """Over the last axis of `a` and the axis `contracted` of `b`."""
    return jax.lax.dot_general(a, b, (((1,), (contracted,)), ((), ())), preferred_element_type=jnp.float32)


def _turned(x: Float[Array, "t d"]) -> Float[Array, "d t"]:
    """The transpose. On a CPU in memory, where it is bfloat16: matrix units read rows, and for a mere view XLA falls
    back to a product at a fifth of the speed.
    """
    if x.shape[0] % BLOCK_ROWS or x.dtype == jnp.float32:
        return x.T
    return jax.lax.platform_dependent(x, cpu=_moved, default=jnp.transpose)


def _moved(x: Array) -> Array:
    barrier = jax.lax.optimization_barrier
    blocks = barrier(x.reshape(-1, BLOCK_ROWS, x.shape[1]))  # without the detour XLA makes a view of it
    return barrier(barrier(blocks.transpose(2, 0, 1)).reshape(x.shape[1], x.shape[0]))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 3))
def einsum(spec: str, a: Float[Array, "..."], b: Float[Array, "..."], dtype: Any) -> Float[Array, "..."]:
    """einsum("A,B->C"), in which every index stands in two of the three."""
    native: Callable[..., Array] = functools.partial(jnp.einsum, spec, preferred_element_type=jnp.float32)
    a, b = a.astype(dtype), b.astype(dtype)
    if a.dtype == jnp.float32:
        return native(a, b)
    # XLA has no batched products of bfloat16 on a CPU for some orders of the axes. Those of the same values in float32
    # have the same sums.
    widened = lambda a, b: native(a.astype(jnp.float32), b.astype(jnp.float32))
    return jax.lax.platform_dependent(a, b, cpu=widened, default=native)


def _of_product(spec: str, dtype: Any, operands: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    inputs, of_c = spec.split("->")
    of_a, of_b = inputs.split(",")
    a, b = operands
    return (
        einsum(f"{of_c},{of_b}->{of_a}", g, b, dtype).astype(a.dtype),
        einsum(f"{of_c},{of_a}->{of_b}", g, a, dtype).astype(b.dtype),
    )


einsum.defvjp(lambda spec, a, b, dtype: (einsum(spec, a, b, dtype), (a, b)), _of_product)
