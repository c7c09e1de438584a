"""Products: rounded operands, float32 sums, forward and backward."""

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
    "td,df->tf, rows that make no whole block": ((15, 6), (6, 5), (15, 5)),
}


@pytest.mark.parametrize("dtype", ROUND)
@pytest.mark.parametrize("name", SPECS)
def test_value_and_gradients_of_rounded_operands(name, dtype):
    """Against float64 on the operands and the cotangent as they are rounded."""
    spec = name.partition(", rows")[0]
    a, b, g = (RANDOM.normal(size=shape) for shape in SPECS[name])
    compute = matmul if spec == "td,df->tf" else lambda a, b, dtype: einsum(spec, a, b, dtype)
    ours, pull = jax.vjp(lambda a, b: compute(a, b, jnp.dtype(dtype)), *(jnp.asarray(x, jnp.float32) for x in (a, b)))
    rounded = [ROUND[dtype](x).astype(np.float64) for x in (a, b, g)]
    inputs, of_c = spec.split("->")
    of_a, of_b = inputs.split(",")
    wanted = (
        np.einsum(spec, rounded[0], rounded[1]),
        np.einsum(f"{of_c},{of_b}->{of_a}", rounded[2], rounded[1]),
        np.einsum(f"{of_c},{of_a}->{of_b}", rounded[2], rounded[0]),
    )
    for got, reference in zip((ours, *pull(jnp.asarray(g, jnp.float32))), wanted, strict=True):
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, reference, atol=2e-6 * np.abs(reference).max())
    not_rounded = np.einsum(spec, a, b)
    assert (np.abs(ours - not_rounded).max() > 1e-3 * np.abs(not_rounded).max()) == (dtype == "bfloat16")


def products_of(f, *arguments):
    """(left, right) types of every product that a TPU would be given, those of a function as often as it is called."""
    text = jax.jit(f).trace(*arguments).lower(lowering_platforms=("tpu",)).as_text()
    _, *parts = re.split(r"func\.func \w+ @(\w+)", text)
    bodies = dict(zip(parts[::2], parts[1::2], strict=True))

    def of_body(name):
        found = re.findall(r"stablehlo\.dot_general.*: \(tensor<[\dx]*x(\w+)>, tensor<[\dx]*x(\w+)>\)", bodies[name])
        return found + [types for called in re.findall(r"call @(\w+)", bodies[name]) for types in of_body(called)]

    return of_body("main")


def test_every_product_of_an_update_is_of_bfloat16():
    config = tiny_config(vocab_size=VOCABULARY, max_positions=16, dtype="bfloat16")
    batch = plain(make_rows())
    params = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), parameter_shapes(config)["encoder"])
    loss = lambda params: (
        Transformer(config).apply({"params": params}, batch).hidden_states[-1].astype(jnp.float32).sum()
    )
    found = products_of(jax.grad(loss), params)
    assert len(found) == config.num_layers * (6 + 2) * 3  # each once forward and twice backward
    assert set(found) == {("bf16", "bf16")}
    mixed = lambda a, b: jnp.dot(a, b, preferred_element_type=jnp.float32).sum()
    half = jnp.ones((8, 8), jnp.bfloat16)
    assert ("f32", "bf16") in products_of(jax.grad(mixed), half, half)  # what autodiff would make of it
