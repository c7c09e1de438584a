"""The student as it starts."""

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


def params(config=TEACHER):
    random = np.random.default_rng(0)
    return jax.tree.map(lambda x: random.normal(0, 0.2, x.shape).astype(np.float32), parameter_shapes(config))


def cut(layers, family=distilbert):
    config = family.student_config(TEACHER, num_layers=len(layers), **RATES)
    return config, student_init.init_from_layers(params(), source_config=TEACHER, student_config=config, layers=layers)


def test_at_step_0_the_embedding_output_is_the_teachers():
    """With its token types folded in. Dropping them, as the original did, would be seen."""
    config, student = cut((0, 2))
    batch = plain(make_rows())
    embeddings = lambda c, p: np.asarray(jax.jit(MaskedLM(c).apply)({"params": p}, batch).hidden_states[0])
    wanted = embeddings(TEACHER, params())
    np.testing.assert_allclose(embeddings(config, student.params), wanted, atol=2e-6)
    dropped = {
        **student.params,
        "encoder": {**student.params["encoder"], "positions": params()["encoder"]["positions"]},
    }
    assert np.abs(embeddings(config, dropped) - wanted).max() > 1e-2


def test_layers_and_head_are_the_teachers():
    _, student = cut((0, 3, 1))
    source = params()
    for ours, theirs in enumerate((0, 3, 1)):
        assert_same(student.params["encoder"][f"layer_{ours}"], source["encoder"][f"layer_{theirs}"])
    for name in ("transform", "norm", "bias"):
        assert_same(student.params[name], source[name])
    assert student.copied == (
        "word embeddings, position embeddings and their LayerNorm",
        "token type 0, folded into the position embeddings",
        "layers 0 → 0, 3 → 1, 1 → 2",
        "masked-word head: transform, LayerNorm and output bias",
    )


def test_all_layers_of_a_bert_make_the_same_model():
    config, student = cut((0, 1, 2, 3), family=bert)
    batch = plain(make_rows())
    whole = jax.jit(MaskedLM(TEACHER).apply)({"params": params()}, batch)
    again = jax.jit(MaskedLM(config).apply)({"params": student.params}, batch)
    assert_same(whole.hidden_states[-1], again.hidden_states[-1])


def test_shapes_are_those_of_the_family():
    config, student = cut((0, 2))
    assert jax.tree.map(lambda x: x.shape, student.params) == jax.tree.map(lambda x: x.shape, parameter_shapes(config))
    assert (config.num_token_types, config.attention_output_dropout, config.dropout) == (0, 0.0, 0.1)
    assert bert.student_config(TEACHER, num_layers=2, **RATES).attention_output_dropout == 0.1


@pytest.mark.parametrize("layers", [(0, 4), (-1,), ()])
def test_layers_that_are_not_there(layers):
    with pytest.raises(ValueError, match=r"student.layers .*: the model it starts from has layers 0 to 3"):
        student_init.init_from_layers(params(), source_config=TEACHER, student_config=TEACHER, layers=layers)


def test_a_bert_cannot_come_from_a_model_without_token_types():
    with pytest.raises(ValueError, match="a bert student needs token types"):
        bert.student_config(dataclasses.replace(TEACHER, num_token_types=0), num_layers=1, **RATES)


def test_a_new_head_answers_with_the_words_frequency():
    frequency = np.log(np.arange(1, 51) / np.arange(1, 51).sum())
    head = student_init.init_masked_lm_head(TEACHER, log_frequency=frequency, seed=0)
    whole = {"encoder": params()["encoder"], **head}
    assert jax.tree.map(lambda x: x.shape, whole) == jax.tree.map(lambda x: x.shape, parameter_shapes(TEACHER))
    np.testing.assert_allclose(jax.nn.log_softmax(jnp.asarray(head["bias"])), frequency, atol=1e-5)


PAPER = {"bert": (bert, 109_514_298, bert.BASE), "distilbert": (distilbert, 66_985_530, distilbert.BASE)}


@pytest.mark.parametrize("name", PAPER)
def test_parameter_counts_of_the_releases(name):
    _, count, shape = PAPER[name]
    assert sum(x.size for x in jax.tree.leaves(parameter_shapes(shape))) == count


def test_the_released_student_is_cut_from_the_released_teacher():
    cut_shape = distilbert.student_config(bert.BASE, num_layers=6, **RATES)
    assert cut_shape == distilbert.BASE
    kept = 66_985_530 / 109_514_298
    assert round(100 * (1 - 66_362_880 / 109_482_240), 1) == 39.4
    assert kept < 0.62
