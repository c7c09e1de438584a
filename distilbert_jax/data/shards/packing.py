"""Packs documents into rows of fixed length: long documents are split, short and unreadable pieces dropped, and the
rest put several to a row.
"""

import collections
import dataclasses

import numpy as np

from distilbert_jax.data.tokenizer.tokenizer import Tokenizer

MIN_PIECE_TOKENS = 12
"""Fewest tokens of a piece, with [CLS] and [SEP]. DistilBERT's original code drops the same pieces."""

MAX_UNKNOWN_SHARE = 0.5
"""A piece with this share of [UNK] or more is dropped."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackedTexts:
    """The rows of one chunk.

    Attributes:
        tokens: [rows, t] ids.
        segment_ids: [rows, t]: the documents of a row are numbered 1, 2, …, and padding is 0.
        counts: documents, pieces, tokens and rows, and the dropped pieces: "short" and "unknown".
    """

    tokens: np.ndarray
    segment_ids: np.ndarray
    counts: collections.Counter[str]


def pack(texts: list[str], tokenizer: Tokenizer, *, sequence_length: int) -> PackedTexts:
    """Packs the documents of one chunk.

    The result depends on the arguments alone, so that it does not matter which process does the work.

    Args:
        texts: the documents.
        tokenizer: the student's tokenizer.
        sequence_length: tokens of a row. A longer document is split into pieces of this length.
    """
    counts: collections.Counter[str] = collections.Counter(documents=len(texts))
    pieces = []
    for encoding in tokenizer.encode(texts):
        ids = np.array(encoding.ids, tokenizer.dtype)
        # Each piece gets a [CLS] and a [SEP] of its own, which take two positions.
        for start in range(0, len(ids), sequence_length - 2):
            piece = ids[start : start + sequence_length - 2]
            if len(piece) + 2 < MIN_PIECE_TOKENS:
                counts["short"] += 1
            elif np.count_nonzero(piece == tokenizer.unk_id) >= MAX_UNKNOWN_SHARE * (len(piece) + 2):
                counts["unknown"] += 1
            else:
                pieces.append(piece)
    lengths = np.array([len(piece) + 2 for piece in pieces], int)
    rows = best_fit(lengths, sequence_length)
    tokens = np.full((len(rows), sequence_length), tokenizer.pad_id, tokenizer.dtype)
    # A row holds at most sequence_length / MIN_PIECE_TOKENS pieces, which bounds the segment ids.
    dtype = np.uint8 if sequence_length < 256 * MIN_PIECE_TOKENS else np.uint16
    segment_ids = np.zeros((len(rows), sequence_length), dtype)
    for row, members in enumerate(rows):
        end = 0
        for number, member in enumerate(members, 1):
            start, end = end, end + lengths[member]
            tokens[row, start] = tokenizer.cls_id
            tokens[row, start + 1 : end - 1] = pieces[member]
            tokens[row, end - 1] = tokenizer.sep_id
            segment_ids[row, start:end] = number
    counts.update(pieces=len(pieces), tokens=int(lengths.sum()), rows=len(rows))
    return PackedTexts(tokens=tokens, segment_ids=segment_ids, counts=counts)


def best_fit(lengths: np.ndarray, capacity: int) -> list[list[int]]:
    """Distributes pieces over rows by best fit, longest first: each piece goes to the fullest row with room for it.

    Args:
        lengths: [pieces], each at most `capacity`.
        capacity: the length of a row.

    Returns:
        The indices of the pieces of each row.
    """
    rows: list[list[int]] = []
    rows_by_room: list[list[int]] = [[] for _ in range(capacity + 1)]  # rows with room left, by the size of the room
    for piece in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[piece])
        room = next((room for room in range(length, capacity + 1) if rows_by_room[room]), None)
        if room is None:
            rows.append([])
            room, row = capacity, len(rows) - 1
        else:
            row = rows_by_room[room].pop()
        rows[row].append(piece)
        rows_by_room[room - length].append(row)
    return rows
