"""The heads without transformers beside them: how many parameters each has, and what may and may not reach a score."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distilbert_jax import heads
from distilbert_jax.data.masking import compute_positions
from distilbert_jax.hub.load import parameter_shapes
from distilbert_jax.models.families import distilbert
from distilbert_jax.models.transformer import HeadConfig
from distilbert_jax.types import Batch
from tests.conftest import tiny_config

TWO = HeadConfig(labels=("no", "yes"), dropout=0.2)
COUNTS = {  # of DistilBERT base, uncased
    "masked_lm": 66_985_530,
    "sequence_classification": 66_955_010,
    "token_classification": 66_364_418,
    "question_answering": 66_364_418,
    "multiple_choice": 66_954_241,
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts(name):
    assert sum(x.size for x in jax.tree.leaves(parameter_shapes(distilbert.BASE, name, TWO))) == COUNTS[name]


def test_every_head_is_counted():
    assert heads.HEADS.keys() == COUNTS.keys()


def batch(segments, *, predict_positions):
    segments = jnp.asarray(segments)
    b, t = segments.shape
    ones = jnp.ones((b, 1))
    return Batch(
        row_ids=jnp.arange(b),
        epochs=jnp.zeros(b, int),
        tokens=jnp.asarray(np.random.default_rng(0).integers(5, 60, (b, t))) * (segments > 0),
        segment_ids=segments,
        positions=compute_positions(segments),
        token_types=jnp.zeros((b, t), int),
        predict_positions=jnp.asarray(predict_positions),
        prediction_weights=ones,
        label_weights=ones,
        labels=jnp.zeros((b, 1), int),
    )


def model(name):
    module = heads.build_model(name, tiny_config(), TWO)
    shapes = parameter_shapes(tiny_config(), name, TWO)
    random = np.random.default_rng(1)
    params = jax.tree.map(lambda x: jnp.asarray(random.normal(0, 0.2, x.shape), jnp.float32), shapes)
    return jax.jit(lambda batch, keys=None: module.apply({"params": params}, batch, keys=keys).logits)


def test_a_choice_sees_itself_alone():
    """The same choice among others and in another place gets the same score, to the last digits."""
    scores = model("multiple_choice")
    whole = batch([[1] * 6 + [2] * 6 + [3] * 6], predict_positions=[[0, 6, 12]])
    turned = dataclasses.replace(whole, tokens=jnp.roll(whole.tokens, 6, axis=1))
    first, second = scores(whole)[0, 0], scores(turned)[0, 0]
    np.testing.assert_allclose(first, jnp.roll(second, -1), rtol=1e-5, atol=5e-6)
    other = dataclasses.replace(whole, tokens=whole.tokens.at[0, 7].set(9))
    changed = scores(other)[0, 0] != first
    assert changed.tolist() == [False, True, False]


def test_dropout_is_the_rows_own():
    """A row's scores in training depend on its key, not on its place in the batch."""
    scores = model("sequence_classification")
    two = batch([[1] * 6, [1] * 6], predict_positions=[[0], [0]])
    keys = jax.random.split(jax.random.key(0), 2)
    swap = lambda x: jnp.flip(x, 0)
    trained = scores(two, keys)
    np.testing.assert_array_equal(scores(jax.tree.map(swap, two), swap(keys)), swap(trained))
    assert not jnp.allclose(trained, scores(two))
