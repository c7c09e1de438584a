"""Rows and batches for tests, and what compares trees."""

import jax
import jax.numpy as jnp
import numpy as np

from distilbert_jax.data.masking import TokenMasker, compute_log_preference, compute_positions
from distilbert_jax.types import Batch, PackedRows

VOCABULARY = 50
SPECIAL = (0, 1, 2)
MASK = 2


def make_rows(seed: int = 0, *, b: int = 8, t: int = 16) -> PackedRows:
    """Rows of two packed documents and some padding, of different lengths."""
    random = np.random.default_rng(seed)
    ends = random.integers(10, t, (b, 1))
    at = np.arange(t)[None]
    segments = np.where(at < 6, 1, np.where(at < ends, 2, 0))
    tokens = np.where(segments > 0, random.integers(3, VOCABULARY, (b, t)), 0)
    return PackedRows(
        row_ids=jnp.arange(b), epochs=jnp.zeros(b, int), tokens=jnp.asarray(tokens), segment_ids=jnp.asarray(segments)
    )


def masked(*, everywhere: bool = False, share: float = 0.15):
    """ask(keys, rows) -> Batch, with every word equally likely."""
    words = TokenMasker(mask_id=MASK, vocab_size=VOCABULARY, mask_rate=share, all_positions=everywhere)
    preference = compute_log_preference(jnp.ones(VOCABULARY), jnp.asarray(SPECIAL), smoothing=0.0)
    return lambda keys, rows: words(keys, rows, preference)


def plain(rows: PackedRows) -> Batch:
    """Asks at every place, nothing masked; real places are asked, every other one is labelled."""
    t = rows.tokens.shape[1]
    real = (rows.segment_ids > 0).astype(jnp.float32)
    return Batch(
        row_ids=rows.row_ids,
        epochs=rows.epochs,
        tokens=rows.tokens,
        segment_ids=rows.segment_ids,
        positions=compute_positions(rows.segment_ids),
        token_types=jnp.zeros_like(rows.tokens),
        predict_positions=jnp.broadcast_to(jnp.arange(t)[None], rows.tokens.shape),
        prediction_weights=real,
        label_weights=real * (jnp.arange(t) % 2 == 0)[None],
        labels=rows.tokens,
    )


def stack(rows: PackedRows, accumulation: int) -> PackedRows:
    return jax.tree.map(lambda x: x.reshape(accumulation, -1, *x.shape[1:]), rows)


def assert_close(a, b, **how):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(np.asarray(x), np.asarray(y), **how), a, b)


def assert_same(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(np.asarray(x), np.asarray(y)), a, b)
