"""Which tokens are masked, how they are corrupted, and that the row's own key alone decides it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distilbert_jax.data.masking import TokenMasker, compute_log_preference, compute_positions, num_predictions
from distilbert_jax.types import PackedRows
from tests.helpers.batches import MASK, SPECIAL, VOCABULARY, assert_same, make_rows, masked

ROWS = 4_000


def keys(n, seed=0):
    return jax.random.split(jax.random.key(seed), n)


def make_full_rows(t=20, vocab_size=VOCABULARY):
    """Rows without padding: [CLS], words, [SEP]."""
    tokens = np.random.default_rng(0).integers(3, vocab_size, (ROWS, t))
    tokens[:, 0], tokens[:, -1] = 0, 1
    return PackedRows(
        row_ids=jnp.arange(ROWS),
        epochs=jnp.zeros(ROWS, int),
        tokens=jnp.asarray(tokens),
        segment_ids=jnp.ones((ROWS, t), int),
    )


@pytest.mark.parametrize("share", [0.15, 0.4])
def test_the_exact_share_of_each_row_rounded_up(share):
    rows = make_rows(b=64)
    batch = jax.jit(masked(share=share))(keys(64), rows)
    real = np.asarray(rows.segment_ids > 0).sum(-1)
    np.testing.assert_array_equal(batch.label_weights.sum(-1), -(-round(share * 100) * real // 100))


def test_rounding_errors_of_floats_add_no_prediction():
    assert np.ceil(np.float32(0.15) * np.float32(100)) == 16
    assert np.ceil(0.07 * 100) == 8
    assert num_predictions(100, mask_rate=0.15) == 15
    assert num_predictions(100, mask_rate=0.07) == 7
    assert num_predictions(20, mask_rate=0.15) == 3
    assert num_predictions(512, mask_rate=0.15) == 77


@pytest.mark.parametrize("rate, expected", [(0.1234, 124), (0.0004, 1), (1e-30, 1), (1.0, 1_000), (0.3, 300)])
def test_the_rate_is_used_as_it_is_written(rate, expected):
    assert num_predictions(1_000, mask_rate=rate) == expected
    assert num_predictions(0, mask_rate=rate) == 0


def test_a_rate_of_four_decimals_masks_as_many_tokens_as_it_says():
    rows = make_full_rows(t=1_000)
    rows = jax.tree.map(lambda x: x[:8], rows)
    batch = jax.jit(masked(share=0.1234))(keys(8), rows)
    np.testing.assert_array_equal(batch.label_weights.sum(-1), 124)


def test_never_special_tokens_nor_padding_nor_one_position_twice():
    rows = make_rows(b=64)
    tokens = rows.tokens.at[:, 0].set(0).at[:, 5].set(1)
    batch = jax.jit(masked(share=0.4))(
        keys(64), PackedRows(row_ids=rows.row_ids, epochs=rows.epochs, tokens=tokens, segment_ids=rows.segment_ids)
    )
    masked_tokens = np.asarray(batch.label_weights, bool)
    assert not np.isin(np.asarray(batch.labels)[masked_tokens], SPECIAL).any()
    for at, chosen, segments in zip(batch.predict_positions, masked_tokens, rows.segment_ids, strict=True):
        assert len(set(np.asarray(at)[chosen].tolist())) == chosen.sum()
        assert (np.asarray(segments)[np.asarray(at)[chosen]] > 0).all()


def test_labels_are_the_original_words_and_the_rest_is_untouched():
    rows = make_full_rows()
    batch = jax.jit(masked())(keys(ROWS), rows)
    original = np.take_along_axis(np.asarray(rows.tokens), np.asarray(batch.predict_positions), 1)
    np.testing.assert_array_equal(batch.labels, original)
    changed = np.asarray(batch.tokens != rows.tokens)
    may_change = np.zeros_like(changed)
    np.put_along_axis(may_change, np.asarray(batch.predict_positions), np.asarray(batch.label_weights, bool), 1)
    assert not (changed & ~may_change).any()


def test_eighty_ten_ten():
    rows = make_full_rows(vocab_size=1_000)
    batch = jax.jit(
        lambda k, r: TokenMasker(mask_id=MASK, vocab_size=1_000)(
            k, r, compute_log_preference(jnp.ones(1_000), jnp.asarray(SPECIAL), smoothing=0.0)
        )
    )(keys(ROWS), rows)
    now = np.take_along_axis(np.asarray(batch.tokens), np.asarray(batch.predict_positions), 1)
    n = now.size
    error = 4 * np.sqrt(0.25 / n)
    assert abs((now == MASK).mean() - 0.8) < error
    assert (
        abs((now == np.asarray(batch.labels)).mean() - 0.1) < error
    )  # a random word is the same one in a thousand times


def test_rare_words_are_chosen_more_often_as_the_smoothing_says():
    counts = np.ones(VOCABULARY)
    counts[3:25] = 1_000
    rows = make_full_rows()
    preference = compute_log_preference(jnp.asarray(counts, jnp.float32), jnp.asarray(SPECIAL), smoothing=0.7)
    one = TokenMasker(mask_id=MASK, vocab_size=VOCABULARY, mask_rate=0.05)  # one word of twenty: no exhaustion
    batch = jax.jit(one)(keys(ROWS), rows, preference)
    inner = np.asarray(rows.tokens)[:, 1:-1]
    weight = counts**-0.7
    expected = (weight[inner] * (inner >= 25)).sum(-1) / weight[inner].sum(-1)
    actual = (np.asarray(batch.labels)[:, 0] >= 25).mean()
    assert abs(actual - expected.mean()) < 4 * np.sqrt(0.25 / ROWS)


def test_predicting_all_positions_masks_the_same_tokens():
    rows = make_rows()
    masked_only, all_positions = (jax.jit(masked(everywhere=e))(keys(8), rows) for e in (False, True))
    np.testing.assert_array_equal(masked_only.tokens, all_positions.tokens)
    np.testing.assert_array_equal(masked_only.label_weights.sum(-1), all_positions.label_weights.sum(-1))
    np.testing.assert_array_equal(all_positions.prediction_weights, rows.segment_ids > 0)


def test_only_the_key_of_the_row_decides():
    rows = make_rows()
    full = jax.jit(masked())(keys(8), rows)
    half = jax.jit(masked())(keys(8)[4:], jax.tree.map(lambda x: x[4:], rows))
    assert_same(jax.tree.map(lambda x: x[4:], full), half)
    assert (jax.jit(masked())(keys(8, seed=1), rows).tokens != full.tokens).any()


def test_positions_start_again_with_each_document():
    segments = jnp.asarray([[1, 1, 1, 2, 2, 3, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1]])
    np.testing.assert_array_equal(compute_positions(segments)[:, :6], [[0, 1, 2, 0, 1, 0], [0, 1, 2, 3, 4, 5]])
