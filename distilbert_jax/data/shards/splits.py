"""Which side of a corpus each document is on: to train on, held out, or dropped because an equal one came before."""

import collections
import hashlib
import pathlib
from collections.abc import Iterable

import numpy as np

from distilbert_jax.io.console import progress_bar

TRAIN, HELD_OUT = "train", "held_out"
SPLITS = (TRAIN, HELD_OUT)
DROPPED = len(SPLITS)
FINGERPRINT = 16  # bytes
SHOWN = 10_000  # documents between two looks at the progress


def fingerprint(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=FINGERPRINT).digest()


def choose(prints: Iterable[tuple[str, bytes]], *, share: float, folder: pathlib.Path, names: str) -> np.ndarray:
    """One number a document, in reading order: the index of its side, or `DROPPED`. `prints` are the names of sources
    and the fingerprints of some documents of each; `names` those of all.

    A source named `HELD_OUT` is held out whole; of the others, `share` of the documents, chosen by their hash, so that
    equal ones fall on one side. Everything stands on disk: memory does not grow with the corpus.
    """
    path = folder / "fingerprints.bin"
    counts: collections.Counter[str] = collections.Counter()
    marks = folder / "splits.bin"
    with progress_bar("reading documents", total=None) as advance, open(path, "wb") as out, open(marks, "wb") as room:
        shown = 0
        for name, some in prints:
            out.write(some)
            documents = len(some) // FINGERPRINT
            room.write(bytes(documents))  # a disk that is full says so here; to the memory map it would be a bus error
            counts[name] += documents
            if counts.total() >= shown:
                advance(counts.total())
                shown = counts.total() + SHOWN
        advance(counts.total())
    if not counts.total():
        raise ValueError(f"no documents in {names}")
    prints = np.memmap(path, np.uint64, "r", shape=(counts.total(), 2))
    sides = np.memmap(marks, np.uint8, "r+", shape=(counts.total(),))
    chosen = prints[:, 1] < np.uint64(share * 2**64)
    chosen[: counts[HELD_OUT]] = True
    sides[:] = np.where(chosen, SPLITS.index(HELD_OUT), SPLITS.index(TRAIN))
    mark_duplicates(prints[:, 0], sides)
    path.unlink()
    return sides


def mark_duplicates(prints: np.ndarray, sides: np.ndarray, *, at_once: int = 2**24) -> None:
    """Marks every document whose fingerprint stood before, looking at about `at_once` of them at a time.

    Two different documents share 64 bits by chance once in 3 % of corpora of a thousand million documents.
    """
    parts = -(-len(prints) // at_once)
    for part in range(parts):
        members = np.flatnonzero(prints % np.uint64(parts) == part) if parts > 1 else np.arange(len(prints))
        order = np.argsort(prints[members], kind="stable")
        repeats = order[1:][prints[members[order[1:]]] == prints[members[order[:-1]]]]
        sides[members[repeats]] = DROPPED
