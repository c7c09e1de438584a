"""Tests the encoder: packed documents, evaluation mode, dropout and recomputation."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry_2x32

from distilbert_jax.heads.masked_lm import MaskedLM
from distilbert_jax.models.attention import PROBABILITIES_SITE, attend
from distilbert_jax.models.dropout import apply_dropout, fold_keys, random_uint16
from distilbert_jax.models.transformer import ATTENTION_OUTPUT_SITE, BLOCK_CLASSES, EMBEDDINGS_SITE, MLP_SITE
from distilbert_jax.train.objective import DROPOUT_KEY, row_keys
from tests.conftest import tiny_config
from tests.helpers.batches import VOCABULARY, assert_close, make_rows, plain

CONFIG = tiny_config(vocab_size=VOCABULARY, max_positions=16, num_layers=2)


def last_hidden(batch, **changes):
    config = dataclasses.replace(CONFIG, **changes)
    model = MaskedLM(config)
    params = jax.jit(model.init)(jax.random.key(0), batch)
    return np.asarray(jax.jit(model.apply)(params, batch).hidden_states[-1])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_packed_documents_do_not_see_each_other(dtype):
    batch = plain(make_rows())
    other = dataclasses.replace(
        batch, tokens=jnp.where(batch.segment_ids == 1, (batch.tokens + 1) % VOCABULARY, batch.tokens)
    )
    a, b = last_hidden(batch, dtype=dtype), last_hidden(other, dtype=dtype)
    np.testing.assert_array_equal(a[batch.segment_ids == 2], b[batch.segment_ids == 2])
    assert (a[batch.segment_ids == 1] != b[batch.segment_ids == 1]).any()


def test_a_document_is_the_same_alone_and_packed():
    batch = plain(make_rows())
    second = np.asarray(batch.segment_ids == 2)
    n = int(second[0].sum())
    alone = jax.tree.map(lambda x: x[:1], batch)

    def shift(x):
        return jnp.roll(x, -6, axis=1)

    alone = dataclasses.replace(
        alone,
        tokens=shift(alone.tokens),
        segment_ids=jnp.where(jnp.arange(16) < n, 1, 0)[None],
        positions=shift(alone.positions),
    )
    np.testing.assert_allclose(last_hidden(alone)[0, :n], last_hidden(batch)[0, second[0]], atol=1e-6)


def test_hidden_states_of_padding_are_finite():
    batch = plain(make_rows())
    assert np.isfinite(last_hidden(batch)).all()
    empty = dataclasses.replace(batch, segment_ids=jnp.zeros_like(batch.segment_ids))
    assert np.isfinite(last_hidden(empty)).all()


def test_bfloat16_computes_near_float32():
    batch = plain(make_rows())
    token_mask = np.asarray(batch.token_mask)
    a, b = last_hidden(batch), last_hidden(batch, dtype="bfloat16").astype(np.float32)
    assert 0 < np.abs(a - b)[token_mask].max() < 0.1


def test_the_softmax_of_attention_is_float32_also_in_bfloat16():
    """A sum of 512 bfloat16 probabilities would be off by several per cent."""
    t = 512
    q = jnp.zeros((1, t, 1, 4), jnp.bfloat16)
    v = jnp.ones((1, t, 1, 4), jnp.bfloat16)
    out = attend(q, q, v, jnp.ones((1, t, t), bool), keys=None, dropout=0.0)
    np.testing.assert_allclose(np.asarray(out, np.float32), 1.0, atol=1e-3)


def test_dropout_keeps_the_mean_and_has_its_rate():
    x = jnp.ones((64, 1_000))
    keys = row_keys(0, plain(make_rows(b=64)), DROPOUT_KEY)
    dropped = np.asarray(apply_dropout(x, keys, rate=0.1, site=0))
    assert abs((dropped == 0).mean() - 0.1) < 0.005
    np.testing.assert_allclose(dropped[dropped > 0], 1 / 0.9, rtol=1e-4)
    assert abs(dropped.mean() - 1) < 0.005
    assert (dropped[0] != dropped[1]).any()
    np.testing.assert_array_equal(apply_dropout(x, None, rate=0.1, site=0), x)
    assert (np.asarray(apply_dropout(x, keys, rate=0.1, site=1)) != dropped).any()


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 4_096), (5, 7, 11)])
def test_random_bits_are_the_blocks_of_threefry(shape):
    """Compares with threefry, called block by block, and checks that each bit is 1 half of the time."""
    key = jax.random.key(7)
    size, blocks_per_head = math.prod(shape), -(-math.prod(shape[1:]) // 2)
    values = np.asarray(random_uint16(key, shape)).reshape(shape[0], -1)
    for first, row in enumerate(values):
        counts = jnp.arange(first * blocks_per_head, (first + 1) * blocks_per_head, dtype=jnp.uint32)
        words = np.asarray(threefry_2x32(jax.random.key_data(key), counts))
        np.testing.assert_array_equal(row, np.stack([words & 0xFFFF, words >> 16], axis=1).ravel()[: len(row)])
    values = values.ravel()
    if size > 1_000:
        ones = np.unpackbits(values.view(np.uint8)).reshape(-1, 16).mean(axis=0)
        assert np.abs(ones - 0.5).max() < 5 * 0.5 / math.sqrt(size)
        assert len(np.unique(values)) > 0.93 * 2**16 * (1 - math.exp(-size / 2**16))


def test_layers_and_sites_have_different_masks():
    keys = row_keys(0, plain(make_rows()), DROPOUT_KEY)
    layers_and_sites = [
        (layer, site) for layer in range(3) for site in (PROBABILITIES_SITE, ATTENTION_OUTPUT_SITE, MLP_SITE)
    ]
    masks = [
        np.asarray(apply_dropout(jnp.ones((8, 100)), fold_keys(keys, layer), rate=0.5, site=site))
        for layer, site in layers_and_sites
    ]
    masks.append(np.asarray(apply_dropout(jnp.ones((8, 100)), keys, rate=0.5, site=EMBEDDINGS_SITE)))
    agreement = [(a == b).mean() for i, a in enumerate(masks) for b in masks[:i]]
    assert 0.4 < min(agreement) <= max(agreement) < 0.6


def make_objective(config, rows, *, dropout):
    """Returns (function from parameters to the squared sum of the last hidden states, parameters)."""
    batch, model = plain(rows), MaskedLM(config)
    keys = row_keys(0, batch, DROPOUT_KEY) if dropout else None
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), batch))
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda x: jnp.asarray(random.normal(0, 0.1, x.shape), jnp.float32), params)
    return lambda params: (model.apply(params, batch, keys=keys).hidden_states[-1] ** 2).sum(), params


@pytest.mark.parametrize("remat", ["attention", "layers"])
def test_recomputation_does_not_change_gradients(remat):
    """This holds with dropout, too, because its masks depend on the rows only."""
    gradients = []
    for kind in ("none", remat):
        f, params = make_objective(dataclasses.replace(CONFIG, remat=kind), make_rows(), dropout=True)
        gradients.append(jax.jit(jax.grad(f))(params))
    assert_close(*gradients, rtol=1e-5, atol=1e-6)


def test_what_is_recomputed_is_not_kept():
    """Counts what the forward pass keeps, because XLA on a CPU does not recompute and memory would not show it."""
    kept = {}
    for remat in BLOCK_CLASSES:
        config = dataclasses.replace(CONFIG, remat=remat, num_layers=6, max_positions=64)
        f, params = make_objective(config, make_rows(b=8, t=64), dropout=False)
        residuals = jax.eval_shape(lambda params, f=f: jax.vjp(f, params)[1], params)
        kept[remat] = sum(x.size for x in jax.tree.leaves(residuals)) - sum(x.size for x in jax.tree.leaves(params))
    assert kept["attention"] < 0.5 * kept["none"]
    assert kept["layers"] < 0.5 * kept["attention"]
