"""Tests that products have rounded operands and float32 sums, forward and backward."""

import re

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from distilbert_jax.hub.load import parameter_shapes
from distilbert_jax.models.matmul import einsum, matmul
from distilbert_jax.models.transformer import Transformer
from tests.conftest import tiny_config
from tests.helpers.batches import VOCABULARY, make_rows, plain

RANDOM = np.random.default_rng(0)
ROUND = {"float32": lambda x: x.astype(np.float32), "bfloat16": lambda x: x.astype(ml_dtypes.bfloat16)}
SPECS = {
    "bthk,buhk->bhtu": ((2, 5, 3, 4), (2, 7, 3, 4), (2, 3, 5, 7)),
    "bhtu,buhk->bthk": ((2, 3, 5, 7), (2, 7, 3, 4), (2, 5, 3, 4)),
    "td,df->tf": ((16, 6), (6, 5), (16, 5)),
    "td,df->tf, rows that do not fill the last block": ((15, 6), (6, 5), (15, 5)),
}


@pytest.mark.parametrize("dtype", ROUND)
@pytest.mark.parametrize("name", SPECS)
def test_value_and_gradients_of_rounded_operands(name, dtype):
    """Compares with float64 products of the operands and the cotangent after rounding."""
    spec = name.partition(", rows")[0]
    a, b, g = (RANDOM.normal(size=shape) for shape in SPECS[name])
    compute = matmul if spec == "td,df->tf" else lambda a, b, dtype: einsum(spec, a, b, dtype)
    actual, pull = jax.vjp(lambda a, b: compute(a, b, jnp.dtype(dtype)), *(jnp.asarray(x, jnp.float32) for x in (a, b)))
    rounded = [ROUND[dtype](x).astype(np.float64) for x in (a, b, g)]
    inputs, c_indices = spec.split("->")
    a_indices, b_indices = inputs.split(",")
    expected = (
        np.einsum(spec, rounded[0], rounded[1]),
        np.einsum(f"{c_indices},{b_indices}->{a_indices}", rounded[2], rounded[1]),
        np.einsum(f"{c_indices},{a_indices}->{b_indices}", rounded[2], rounded[0]),
    )
    for result, reference in zip((actual, *pull(jnp.asarray(g, jnp.float32))), expected, strict=True):
        assert result.dtype == jnp.float32
        np.testing.assert_allclose(result, reference, atol=2e-6 * np.abs(reference).max())
    not_rounded = np.einsum(spec, a, b)
    assert (np.abs(actual - not_rounded).max() > 1e-3 * np.abs(not_rounded).max()) == (dtype == "bfloat16")


def find_products(f, *arguments):
    """Returns the (left, right) dtypes of every product in a program for TPU, as often as each is called."""
    text = jax.jit(f).trace(*arguments).lower(lowering_platforms=("tpu",)).as_text()
    _, *parts = re.split(r"func\.func \w+ @(\w+)", text)
    bodies = dict(zip(parts[::2], parts[1::2], strict=True))

    def per_function(name):
        products = re.findall(r"stablehlo\.dot_general.*: \(tensor<[\dx]*x(\w+)>, tensor<[\dx]*x(\w+)>\)", bodies[name])
        return products + [
            types for called in re.findall(r"call @(\w+)", bodies[name]) for types in per_function(called)
        ]

    return per_function("main")


def test_every_product_of_a_step_has_bfloat16_operands():
    config = tiny_config(vocab_size=VOCABULARY, max_positions=16, dtype="bfloat16")
    batch = plain(make_rows())
    params = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), parameter_shapes(config)["encoder"])

    def loss(params):
        return Transformer(config).apply({"params": params}, batch).hidden_states[-1].astype(jnp.float32).sum()

    products = find_products(jax.grad(loss), params)
    assert len(products) == config.num_layers * (6 + 2) * 3  # each once forward and twice backward
    assert set(products) == {("bf16", "bf16")}

    def mixed(a, b):
        return jnp.dot(a, b, preferred_element_type=jnp.float32).sum()

    half = jnp.ones((8, 8), jnp.bfloat16)
    assert ("f32", "bf16") in find_products(jax.grad(mixed), half, half)  # JAX's own gradient
