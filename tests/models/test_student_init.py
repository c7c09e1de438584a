"""Tests the initial parameters of a student."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distilbert_jax.heads.masked_lm import MaskedLM
from distilbert_jax.hub.load import parameter_shapes
from distilbert_jax.models import student_init
from distilbert_jax.models.families import bert, distilbert
from tests.conftest import tiny_config
from tests.helpers.batches import assert_same, make_rows, plain

TEACHER = tiny_config(vocab_size=50, max_positions=16)
RATES = {"dropout": 0.1, "attention_dropout": 0.1}


def make_params(config=TEACHER):
    random = np.random.default_rng(0)
    return jax.tree.map(lambda x: random.normal(0, 0.2, x.shape).astype(np.float32), parameter_shapes(config))


def init_student(layers, family=distilbert):
    config = family.student_config(TEACHER, num_layers=len(layers), **RATES)
    return config, student_init.init_from_layers(
        make_params(), source_config=TEACHER, student_config=config, layers=layers
    )


def test_at_step_0_the_embedding_output_is_the_teachers():
    """Token type 0 is added to the position embeddings. Without it, as in the original, they would differ."""
    config, student = init_student((0, 2))
    batch = plain(make_rows())

    def compute_embeddings(config, params):
        return np.asarray(jax.jit(MaskedLM(config).apply)({"params": params}, batch).hidden_states[0])

    expected = compute_embeddings(TEACHER, make_params())
    np.testing.assert_allclose(compute_embeddings(config, student.params), expected, atol=2e-6)
    dropped = {
        **student.params,
        "encoder": {**student.params["encoder"], "positions": make_params()["encoder"]["positions"]},
    }
    assert np.abs(compute_embeddings(config, dropped) - expected).max() > 1e-2


def test_layers_and_head_are_the_teachers():
    _, student = init_student((0, 3, 1))
    source = make_params()
    for i, layer in enumerate((0, 3, 1)):
        assert_same(student.params["encoder"][f"layer_{i}"], source["encoder"][f"layer_{layer}"])
    for name in ("transform", "norm", "bias"):
        assert_same(student.params[name], source[name])
    assert student.copied == (
        "word embeddings, position embeddings and their LayerNorm",
        "token type 0, added to the position embeddings",
        "layers 0 → 0, 3 → 1, 1 → 2",
        "masked LM head: transform, LayerNorm and output bias",
    )


def test_a_student_with_all_layers_is_the_same_model():
    config, student = init_student((0, 1, 2, 3), family=bert)
    batch = plain(make_rows())
    original = jax.jit(MaskedLM(TEACHER).apply)({"params": make_params()}, batch)
    copy = jax.jit(MaskedLM(config).apply)({"params": student.params}, batch)
    assert_same(original.hidden_states[-1], copy.hidden_states[-1])


def test_shapes_are_those_of_the_family():
    config, student = init_student((0, 2))
    assert jax.tree.map(lambda x: x.shape, student.params) == jax.tree.map(lambda x: x.shape, parameter_shapes(config))
    assert (config.num_token_types, config.attention_output_dropout, config.dropout) == (0, 0.0, 0.1)
    assert bert.student_config(TEACHER, num_layers=2, **RATES).attention_output_dropout == 0.1


@pytest.mark.parametrize("layers", [(0, 4), (-1,), ()])
def test_layers_that_do_not_exist_are_refused(layers):
    with pytest.raises(ValueError, match=r"student.layers is .*, but the model it starts from has layers 0 to 3"):
        student_init.init_from_layers(make_params(), source_config=TEACHER, student_config=TEACHER, layers=layers)


def test_a_bert_cannot_come_from_a_model_without_token_types():
    with pytest.raises(ValueError, match="a bert student needs token types"):
        bert.student_config(dataclasses.replace(TEACHER, num_token_types=0), num_layers=1, **RATES)


def test_a_new_head_predicts_the_frequency_of_tokens():
    frequency = np.log(np.arange(1, 51) / np.arange(1, 51).sum())
    head = student_init.init_masked_lm_head(TEACHER, log_frequency=frequency, seed=0)
    complete = {"encoder": make_params()["encoder"], **head}
    assert jax.tree.map(lambda x: x.shape, complete) == jax.tree.map(lambda x: x.shape, parameter_shapes(TEACHER))
    np.testing.assert_allclose(jax.nn.log_softmax(jnp.asarray(head["bias"])), frequency, atol=1e-5)


PAPER = {"bert": (bert, 109_514_298, bert.BASE), "distilbert": (distilbert, 66_985_530, distilbert.BASE)}


@pytest.mark.parametrize("name", PAPER)
def test_parameter_counts_of_the_releases(name):
    _, count, config = PAPER[name]
    assert sum(x.size for x in jax.tree.leaves(parameter_shapes(config))) == count


def test_the_released_student_fits_the_released_teacher():
    student_config = distilbert.student_config(bert.BASE, num_layers=6, **RATES)
    assert student_config == distilbert.BASE
    fraction = 66_985_530 / 109_514_298
    assert round(100 * (1 - 66_362_880 / 109_482_240), 1) == 39.4
    assert fraction < 0.62
