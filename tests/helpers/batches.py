"""Makes rows and batches for tests, and compares trees."""

import jax
import jax.numpy as jnp
import numpy as np

from distilbert_jax.data.masking import TokenMasker, compute_log_preference, compute_positions
from distilbert_jax.types import Batch, PackedRows

VOCABULARY = 50
SPECIAL = (0, 1, 2)
MASK = 2


def make_rows(seed: int = 0, *, b: int = 8, t: int = 16) -> PackedRows:
    """Returns rows of two packed documents, of different lengths, and some padding."""
    random = np.random.default_rng(seed)
    ends = random.integers(10, t, (b, 1))
    positions = np.arange(t)[None]
    segments = np.where(positions < 6, 1, np.where(positions < ends, 2, 0))
    tokens = np.where(segments > 0, random.integers(3, VOCABULARY, (b, t)), 0)
    return PackedRows(
        row_ids=jnp.arange(b), epochs=jnp.zeros(b, int), tokens=jnp.asarray(tokens), segment_ids=jnp.asarray(segments)
    )


def masked(*, everywhere: bool = False, share: float = 0.15):
    """Returns make_batch(keys, rows) -> Batch, which masks every token of a row with the same probability."""
    masker = TokenMasker(mask_id=MASK, vocab_size=VOCABULARY, mask_rate=share, all_positions=everywhere)
    preference = compute_log_preference(jnp.ones(VOCABULARY), jnp.asarray(SPECIAL), smoothing=0.0)
    return lambda keys, rows: masker(keys, rows, preference)


def plain(rows: PackedRows) -> Batch:
    """Returns a batch of `rows` without masks: predictions at every token, and labels at every other position."""
    t = rows.tokens.shape[1]
    token_mask = (rows.segment_ids > 0).astype(jnp.float32)
    return Batch(
        row_ids=rows.row_ids,
        epochs=rows.epochs,
        tokens=rows.tokens,
        segment_ids=rows.segment_ids,
        positions=compute_positions(rows.segment_ids),
        token_types=jnp.zeros_like(rows.tokens),
        predict_positions=jnp.broadcast_to(jnp.arange(t)[None], rows.tokens.shape),
        prediction_weights=token_mask,
        label_weights=token_mask * (jnp.arange(t) % 2 == 0)[None],
        labels=rows.tokens,
    )


def stack(rows: PackedRows, accumulation: int) -> PackedRows:
    """Returns `rows` in micro-batches: leaves of [accumulation, b, …]."""
    return jax.tree.map(lambda x: x.reshape(accumulation, -1, *x.shape[1:]), rows)


def assert_close(a, b, **tolerances):
    """Asserts that two trees have close leaves."""
    jax.tree.map(lambda x, y: np.testing.assert_allclose(np.asarray(x), np.asarray(y), **tolerances), a, b)


def assert_same(a, b):
    """Asserts that two trees have equal leaves."""
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(np.asarray(x), np.asarray(y)), a, b)
