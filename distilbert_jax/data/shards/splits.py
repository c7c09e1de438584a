"""Assigns each document of a corpus to train or held_out, or drops it as a duplicate."""

import collections
import hashlib
import pathlib
from collections.abc import Iterable

import numpy as np

from distilbert_jax.io.console import progress_bar

TRAIN, HELD_OUT = "train", "held_out"
SPLITS = (TRAIN, HELD_OUT)
DROPPED = len(SPLITS)
"""The number of a dropped document, where that of another is the index of its split in `SPLITS`."""

FINGERPRINT_BYTES = 16
DOCUMENTS_PER_PROGRESS_UPDATE = 10_000


def compute_fingerprint(text: str) -> bytes:
    """Computes the hash that decides a document's split and whether it repeats another."""
    return hashlib.blake2b(text.encode(), digest_size=FINGERPRINT_BYTES).digest()


def assign_splits(
    fingerprints: Iterable[tuple[str, bytes]], *, share: float, folder: pathlib.Path, names: str
) -> np.ndarray:
    """Assigns every document to a split, or drops it because an equal one comes before it.

    All documents of a source named `HELD_OUT` are held out. Of the others, a share is held out that their hashes
    choose, so that equal documents are in the same split. The fingerprints and the result are kept on disk: memory
    does not grow with the corpus.

    Args:
        fingerprints: (name of a source, fingerprints of some of its documents, one after the other), in reading order.
        share: the share of the documents to hold out, from 0 to 1.
        folder: where `splits.bin`, the result, is kept. The caller removes it after use.
        names: the names of all sources, for the error message.

    Returns:
        [documents] uint8 in reading order: the index of the document's split in `SPLITS`, or `DROPPED`.

    Raises:
        ValueError: If there are no documents.
    """
    fingerprints_path = folder / "fingerprints.bin"
    splits_path = folder / "splits.bin"
    counts: collections.Counter[str] = collections.Counter()
    with (
        progress_bar("reading documents", total=None) as advance,
        open(fingerprints_path, "wb") as fingerprints_file,
        open(splits_path, "wb") as splits_file,
    ):
        next_update = 0
        for name, content in fingerprints:
            fingerprints_file.write(content)
            documents = len(content) // FINGERPRINT_BYTES
            # Writing zeros reports a full disk as an error here; the memory map below would end with a bus error.
            splits_file.write(bytes(documents))
            counts[name] += documents
            if counts.total() >= next_update:
                advance(counts.total())
                next_update = counts.total() + DOCUMENTS_PER_PROGRESS_UPDATE
        advance(counts.total())
    if not counts.total():
        raise ValueError(f"no documents in {names}: add files with text to the sources of the corpus")
    # The first half of a fingerprint finds duplicates, the second half chooses what is held out.
    hashes = np.memmap(fingerprints_path, np.uint64, "r", shape=(counts.total(), 2))
    split_of = np.memmap(splits_path, np.uint8, "r+", shape=(counts.total(),))
    is_held_out = hashes[:, 1] < np.uint64(share * 2**64)
    is_held_out[: counts[HELD_OUT]] = True
    split_of[:] = np.where(is_held_out, SPLITS.index(HELD_OUT), SPLITS.index(TRAIN))
    mark_duplicates(hashes[:, 0], split_of)
    fingerprints_path.unlink()
    return split_of


def mark_duplicates(hashes: np.ndarray, split_of: np.ndarray, *, at_once: int = 2**24) -> None:
    """Marks as dropped every document with the hash of an earlier one.

    Two different documents have the same 64 bits by chance in 3 % of corpora of a thousand million documents.

    Args:
        hashes: [documents] uint64.
        split_of: [documents], changed in place.
        at_once: about how many documents are compared at a time, which bounds memory.
    """
    # Equal hashes have equal remainders, so that documents can be compared remainder by remainder.
    num_parts = -(-len(hashes) // at_once)
    for part in range(num_parts):
        members = np.flatnonzero(hashes % np.uint64(num_parts) == part) if num_parts > 1 else np.arange(len(hashes))
        order = np.argsort(hashes[members], kind="stable")
        repeats = order[1:][hashes[members[order[1:]]] == hashes[members[order[:-1]]]]
        split_of[members[repeats]] = DROPPED
