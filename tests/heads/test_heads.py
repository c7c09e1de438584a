"""Tests the heads without Transformers: their number of parameters, and what a logit depends on."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distilbert_jax import heads
from distilbert_jax.data.masking import compute_positions
from distilbert_jax.hub.load import parameter_shapes
from distilbert_jax.models.families import distilbert
from distilbert_jax.models.transformer import HeadConfig, Transformer
from distilbert_jax.types import Batch
from tests.conftest import tiny_config

TWO_LABELS = HeadConfig(labels=("no", "yes"), dropout=0.2)
COUNTS = {  # of parameters of DistilBERT base, uncased
    "masked_lm": 66_985_530,
    "sequence_classification": 66_955_010,
    "token_classification": 66_364_418,
    "question_answering": 66_364_418,
    "multiple_choice": 66_954_241,
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts(name):
    assert sum(x.size for x in jax.tree.leaves(parameter_shapes(distilbert.BASE, name, TWO_LABELS))) == COUNTS[name]


def test_every_head_has_a_count():
    assert heads.HEADS.keys() == COUNTS.keys()


def make_batch(segment_ids, *, predict_positions):
    segment_ids = jnp.asarray(segment_ids)
    b, t = segment_ids.shape
    ones = jnp.ones((b, 1))
    return Batch(
        row_ids=jnp.arange(b),
        epochs=jnp.zeros(b, int),
        tokens=jnp.asarray(np.random.default_rng(0).integers(5, 60, (b, t))) * (segment_ids > 0),
        segment_ids=segment_ids,
        positions=compute_positions(segment_ids),
        token_types=jnp.zeros((b, t), int),
        predict_positions=jnp.asarray(predict_positions),
        prediction_weights=ones,
        label_weights=ones,
        labels=jnp.zeros((b, 1), int),
    )


def make_logits_function(name):
    module = heads.build_model(name, tiny_config(), TWO_LABELS)
    shapes = parameter_shapes(tiny_config(), name, TWO_LABELS)
    random = np.random.default_rng(1)
    params = jax.tree.map(lambda x: jnp.asarray(random.normal(0, 0.2, x.shape), jnp.float32), shapes)
    return jax.jit(lambda batch, keys=None: module.apply({"params": params}, batch, keys=keys).logits)


def test_a_choice_attends_to_itself_only():
    """A choice has the same logit among other choices and at another position of the row, up to rounding."""
    logits = make_logits_function("multiple_choice")
    original = make_batch([[1] * 6 + [2] * 6 + [3] * 6], predict_positions=[[0, 6, 12]])
    rolled = dataclasses.replace(original, tokens=jnp.roll(original.tokens, 6, axis=1))
    first, second = logits(original)[0, 0], logits(rolled)[0, 0]
    np.testing.assert_allclose(first, jnp.roll(second, -1), rtol=1e-5, atol=5e-6)
    other = dataclasses.replace(original, tokens=original.tokens.at[0, 7].set(9))
    changed = logits(other)[0, 0] != first
    assert changed.tolist() == [False, True, False]


def test_dropout_depends_on_the_row_only():
    """The logits of a row in training depend on its key, and not on its index in the batch."""
    logits = make_logits_function("sequence_classification")
    two_rows = make_batch([[1] * 6, [1] * 6], predict_positions=[[0], [0]])
    keys = jax.random.split(jax.random.key(0), 2)

    def swap(x):
        return jnp.flip(x, 0)

    with_dropout = logits(two_rows, keys)
    np.testing.assert_array_equal(logits(jax.tree.map(swap, two_rows), swap(keys)), swap(with_dropout))
    assert not jnp.allclose(with_dropout, logits(two_rows))


@pytest.mark.parametrize("rounds_the_embedding", [False, True], ids=["as it is", "with the mistake"])
def test_the_gradient_of_the_word_embeddings_is_not_rounded_to_bfloat16(monkeypatch, rounds_the_embedding):
    """A model that gave its embedding in bfloat16 to the losses would get a gradient in bfloat16 from them."""
    original = Transformer.vocabulary_logits

    def vocabulary_logits(self, x, bias):
        logits = original(self, x, bias)
        return dataclasses.replace(logits, embedding=logits.embedding.astype(x.dtype))

    if rounds_the_embedding:
        monkeypatch.setattr(Transformer, "vocabulary_logits", vocabulary_logits)
    config = tiny_config(num_layers=1, dtype="bfloat16")
    module = heads.build_model("masked_lm", config, HeadConfig())
    random = np.random.default_rng(1)
    params = jax.tree.map(
        lambda x: jnp.asarray(random.normal(0, 0.2, x.shape), jnp.float32), parameter_shapes(config, "masked_lm")
    )
    batch = make_batch([[1] * 6] * 4, predict_positions=[[0], [1], [2], [3]])

    def total(params):
        return jnp.sum(jax.nn.log_softmax(module.apply({"params": params}, batch).logits.to_dense())[..., 7])

    unread = np.setdiff1d(np.arange(config.vocab_size), batch.tokens)
    gradient = jax.jit(jax.grad(total))(params)["encoder"]["words"]["embedding"][unread]
    is_rounded = np.array_equal(gradient, gradient.astype(jnp.bfloat16).astype(jnp.float32))
    assert np.abs(gradient).max() > 0
    assert is_rounded == rounds_the_embedding
