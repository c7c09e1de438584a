"""Documents into fixed rows: long ones split, short and unreadable ones dropped, the rest packed several to a row."""

import collections
import dataclasses

import numpy as np

from distilbert_jax.data.tokenizer.tokenizer import Tokenizer

SHORTEST = 12  # tokens, [CLS] and [SEP] included: the original recipe drops 11 and fewer
MOST_UNKNOWN = 0.5  # and those with half or more [UNK]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackedTexts:
    """`tokens` [n t] and `segments` [n t], where the documents of a row are numbered 1, 2, … and 0 is padding; and
    what was left out.
    """

    tokens: np.ndarray
    segment_ids: np.ndarray
    counts: collections.Counter[str]


def pack(texts: list[str], tokenizer: Tokenizer, *, sequence_length: int) -> PackedTexts:
    """Packs the documents of one chunk. The result depends on nothing else, so workers cannot change it."""
    counts: collections.Counter[str] = collections.Counter(documents=len(texts))
    pieces = []
    for encoding in tokenizer.encode(texts):
        ids = np.array(encoding.ids, tokenizer.dtype)
        for start in range(0, len(ids), sequence_length - 2):
            inner = ids[start : start + sequence_length - 2]
            if len(inner) + 2 < SHORTEST:
                counts["short"] += 1
            elif np.count_nonzero(inner == tokenizer.unk_id) >= MOST_UNKNOWN * (len(inner) + 2):
                counts["unknown"] += 1
            else:
                pieces.append(inner)
    lengths = np.array([len(piece) + 2 for piece in pieces], int)
    rows = best_fit(lengths, sequence_length)
    tokens = np.full((len(rows), sequence_length), tokenizer.pad_id, tokenizer.dtype)
    segments = np.zeros((len(rows), sequence_length), np.uint8 if sequence_length < 256 * SHORTEST else np.uint16)
    for row, members in enumerate(rows):
        end = 0
        for number, member in enumerate(members, 1):
            start, end = end, end + lengths[member]
            tokens[row, start], tokens[row, start + 1 : end - 1], tokens[row, end - 1] = (
                tokenizer.cls_id,
                pieces[member],
                tokenizer.sep_id,
            )
            segments[row, start:end] = number
    counts.update(pieces=len(pieces), tokens=int(lengths.sum()), rows=len(rows))
    return PackedTexts(tokens=tokens, segment_ids=segments, counts=counts)


def best_fit(lengths: np.ndarray, capacity: int) -> list[list[int]]:
    """Best fit, longest first: each piece goes to the fullest row that still holds it. Returns the pieces of each
    row.
    """
    rows: list[list[int]] = []
    by_room: list[list[int]] = [[] for _ in range(capacity + 1)]  # open rows, by the room left in them
    for piece in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[piece])
        room = next((room for room in range(length, capacity + 1) if by_room[room]), None)
        if room is None:
            rows.append([])
            room, row = capacity, len(rows) - 1
        else:
            row = by_room[room].pop()
        rows[row].append(piece)
        by_room[room - length].append(row)
    return rows
