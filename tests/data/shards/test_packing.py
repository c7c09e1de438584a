"""Documents into rows: nothing lost, nothing mixed, little wasted."""

import numpy as np
import pytest

from distilbert_jax.data.shards.packing import best_fit, pack
from distilbert_jax.hub.smoke import make_tiny_text

ROW = 32


def documents(packed, tokenizer):
    """The pieces of every row, without [CLS] and [SEP]."""
    pieces = []
    for tokens, segments in zip(packed.tokens, packed.segment_ids, strict=True):
        for number in range(1, segments.max() + 1):
            piece = tokens[segments == number]
            assert (piece[0], piece[-1]) == (tokenizer.cls_id, tokenizer.sep_id)
            pieces.append(tuple(piece[1:-1].tolist()))
        assert (tokens[segments == 0] == tokenizer.pad_id).all()
        assert (np.diff(segments[segments > 0].astype(int)) >= 0).all()
    return pieces


def test_every_piece_is_in_one_row(tokenizer):
    texts = make_tiny_text(documents=100, seed=0).split("\n\n")
    packed = pack(texts, tokenizer, sequence_length=ROW)
    expected = []
    for text in texts:
        ids = tokenizer.backend.encode(text, add_special_tokens=False).ids
        expected += [piece for i in range(0, len(ids), ROW - 2) if len(piece := tuple(ids[i : i + ROW - 2])) >= 10]
    assert sorted(documents(packed, tokenizer)) == sorted(expected)
    assert packed.counts["tokens"] == sum(len(piece) + 2 for piece in expected)
    assert packed.tokens.dtype == np.uint16
    assert packed.segment_ids.dtype == np.uint8


def test_short_and_unknown_pieces_are_dropped_and_counted(tokenizer):
    unknown = "日 " * 12  # not in this vocabulary
    packed = pack(["dog " * 9, "dog " * 10, unknown, "dog " * 30 + "cat"], tokenizer, sequence_length=ROW)
    assert packed.counts["short"] == 2  # nine words, and the one left over of 31
    assert packed.counts["unknown"] == 1
    assert len(documents(packed, tokenizer)) == 2


def test_best_fit():
    assert best_fit(np.array([5, 9, 1, 3]), 10) == [[1, 2], [0, 3]]
    lengths = np.random.default_rng(0).integers(12, 128, 5_000)
    rows = best_fit(lengths, 128)
    assert sorted(piece for row in rows for piece in row) == list(range(5_000))
    assert max(lengths[row].sum() for row in rows) <= 128
    assert lengths.sum() / (128 * len(rows)) > 0.97


@pytest.mark.parametrize("n", [0, 1])
def test_nothing_to_pack(tokenizer, n):
    packed = pack(["dog"] * n, tokenizer, sequence_length=ROW)
    assert packed.tokens.shape == (0, ROW)
