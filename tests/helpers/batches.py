"""Rows and batches for tests, and what compares trees."""

import jax
import jax.numpy as jnp
import numpy as np

from distilbert_jax.data.masking import MaskedWords, log_preference, positions
from distilbert_jax.types import Batch, Rows

VOCABULARY = 50
SPECIAL = (0, 1, 2)
MASK = 2


def make_rows(seed: int = 0, *, b: int = 8, t: int = 16) -> Rows:
    """Rows of two packed documents and some padding, of different lengths."""
    random = np.random.default_rng(seed)
    ends = random.integers(10, t, (b, 1))
    at = np.arange(t)[None]
    segments = np.where(at < 6, 1, np.where(at < ends, 2, 0))
    tokens = np.where(segments > 0, random.integers(3, VOCABULARY, (b, t)), 0)
    return Rows(
        rows=jnp.arange(b), epochs=jnp.zeros(b, int), tokens=jnp.asarray(tokens), segments=jnp.asarray(segments)
    )


def masked(*, everywhere: bool = False, share: float = 0.15):
    """ask(keys, rows) -> Batch, with every word equally likely."""
    words = MaskedWords(mask_id=MASK, words=VOCABULARY, share=share, everywhere=everywhere)
    preference = log_preference(jnp.ones(VOCABULARY), jnp.asarray(SPECIAL), smoothing=0.0)
    return lambda keys, rows: words(keys, rows, preference)


def plain(rows: Rows) -> Batch:
    """Asks at every place, nothing masked; real places are asked, every other one is labelled."""
    t = rows.tokens.shape[1]
    real = (rows.segments > 0).astype(jnp.float32)
    return Batch(
        rows=rows.rows,
        epochs=rows.epochs,
        tokens=rows.tokens,
        segments=rows.segments,
        positions=positions(rows.segments),
        token_types=jnp.zeros_like(rows.tokens),
        predict_at=jnp.broadcast_to(jnp.arange(t)[None], rows.tokens.shape),
        asked=real,
        weights=real * (jnp.arange(t) % 2 == 0)[None],
        labels=rows.tokens,
    )


def stack(rows: Rows, accumulation: int) -> Rows:
    return jax.tree.map(lambda x: x.reshape(accumulation, -1, *x.shape[1:]), rows)


def assert_close(a, b, **how):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(np.asarray(x), np.asarray(y), **how), a, b)


def assert_same(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(np.asarray(x), np.asarray(y)), a, b)
