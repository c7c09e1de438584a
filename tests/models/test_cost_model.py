"""Arithmetic against the products that a traced model really has."""

import dataclasses
import math

import jax
import jax.extend.core
import pytest

from distilbert_jax.heads.masked_lm import MaskedLM
from distilbert_jax.models import cost_model
from tests.conftest import tiny_config
from tests.helpers.batches import make_rows, plain

ROWS, LENGTH, PLACES = 3, 16, 5


def products(jaxpr) -> int:
    """Two operations for each multiply and add of every product, those of inner functions included."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            left, (contracted, _) = equation.invars[0].aval.shape, equation.params["dimension_numbers"][0]
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
        total += sum(products(inner) for inner in jax.extend.core.jaxprs_in_params(equation.params))
    return total


@pytest.fixture(scope="module")
def traced():
    """(configuration, scores of a model, its parameters)."""
    config = tiny_config(dropout=0.0, attention_dropout=0.0, attention_output_dropout=0.0)
    batch = plain(make_rows(b=ROWS, t=LENGTH))
    batch = dataclasses.replace(batch, predict_positions=batch.predict_positions[:, :PLACES])
    model = MaskedLM(config)
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), batch))
    return config, lambda params: model.apply(params, batch).logits.to_dense().sum(), params


def test_a_pass_forward(traced):
    config, scores, params = traced
    expected = cost_model.encoder_flops(config, rows=ROWS, length=LENGTH) + cost_model.masked_lm_head_flops(
        config, num_predictions=ROWS * PLACES
    )
    assert products(jax.make_jaxpr(scores)(params).jaxpr) == expected


def test_an_update(traced):
    config, scores, params = traced
    student = products(jax.make_jaxpr(jax.grad(scores))(params).jaxpr)
    teacher = products(jax.make_jaxpr(scores)(params).jaxpr)
    sizes = dict(rows=ROWS, length=LENGTH, num_predictions=PLACES)
    assert cost_model.update_flops(config, None, **sizes) == student
    assert cost_model.update_flops(config, config, **sizes) == student + teacher
    assert cost_model.update_flops(config, config, **sizes | {"num_predictions": 0}) < student + teacher


def test_bert_base_by_hand():
    """85 million weights in the layers of BERT-base, so 2 · 85 M a token, and attention beside it."""
    config = tiny_config(hidden_size=768, num_layers=12, num_heads=12, mlp_size=3072, vocab_size=30_522)
    assert cost_model.encoder_flops(config, rows=1, length=512) == 512 * (2 * 12 * 7_077_888 + 12 * 4 * 512 * 768)
