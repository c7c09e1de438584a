"""Compares the FLOPs of the cost model with the matrix products of a traced model."""

import dataclasses
import math

import jax
import jax.extend.core
import pytest

from distilbert_jax.heads.masked_lm import MaskedLM
from distilbert_jax.models import cost_model
from tests.conftest import tiny_config
from tests.helpers.batches import make_rows, plain

ROWS, LENGTH, PREDICTIONS = 3, 16, 5


def count_flops(jaxpr) -> int:
    """Returns the FLOPs of all matrix products, those of inner functions included."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            left, (contracted, _) = equation.invars[0].aval.shape, equation.params["dimension_numbers"][0]
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
        total += sum(count_flops(inner) for inner in jax.extend.core.jaxprs_in_params(equation.params))
    return total


@pytest.fixture(scope="module")
def traced():
    """Returns (config, function from parameters to the sum of all logits, shapes of the parameters)."""
    config = tiny_config(dropout=0.0, attention_dropout=0.0, attention_output_dropout=0.0)
    batch = plain(make_rows(b=ROWS, t=LENGTH))
    batch = dataclasses.replace(batch, predict_positions=batch.predict_positions[:, :PREDICTIONS])
    model = MaskedLM(config)
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), batch))
    return config, lambda params: model.apply(params, batch).logits.to_dense().sum(), params


def test_a_pass_forward(traced):
    config, logits, params = traced
    expected = cost_model.encoder_flops(config, rows=ROWS, length=LENGTH) + cost_model.masked_lm_head_flops(
        config, num_predictions=ROWS * PREDICTIONS
    )
    assert count_flops(jax.make_jaxpr(logits)(params).jaxpr) == expected


def test_an_update(traced):
    config, logits, params = traced
    student = count_flops(jax.make_jaxpr(jax.grad(logits))(params).jaxpr)
    teacher = count_flops(jax.make_jaxpr(logits)(params).jaxpr)
    sizes = dict(rows=ROWS, length=LENGTH, num_predictions=PREDICTIONS)
    assert cost_model.update_flops(config, None, **sizes) == student
    assert cost_model.update_flops(config, config, **sizes) == student + teacher
    assert cost_model.update_flops(config, config, **sizes | {"num_predictions": 0}) < student + teacher


def test_bert_base_by_hand():
    """The layers of BERT base have 85 million weights, so 2 · 85 million FLOPs for each token, besides attention."""
    config = tiny_config(hidden_size=768, num_layers=12, num_heads=12, mlp_size=3072, vocab_size=30_522)
    assert cost_model.encoder_flops(config, rows=1, length=512) == 512 * (2 * 12 * 7_077_888 + 12 * 4 * 512 * 768)
