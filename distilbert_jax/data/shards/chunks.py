"""Divides documents into chunks, which are packed together: those of one source and split, in reading order, about two
million characters each.

The same rule is implemented twice: in `read_chunks` for a process that reads all documents in one stream, and in
`plan_chunk_groups` for one that knows only the lengths of the documents and lets other processes read them.
"""

import bisect
import collections
import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from distilbert_jax.data.shards.splits import DROPPED, SPLITS
from distilbert_jax.data.sources.base import Source

CHUNK_CHARACTERS = 2**21
"""A chunk ends with the document that reaches this size."""

MAX_CHUNKS_PER_GROUP = 32
"""Chunks for which a worker reads a file once."""

NamedSources = Sequence[tuple[str, Source]]
"""The sources of a corpus and their names, in reading order."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chunk:
    """Documents that are packed together, and the name of their shard."""

    name: str
    texts: list[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChunkGroup:
    """Consecutive chunks of one split that begin in the same file, before their documents are read.

    Attributes:
        source: what reads the files.
        paths: the files that hold the documents. All chunks begin in the first.
        skipped: the number of documents in the first file before the first one of the group.
        is_member: [documents after the skipped ones] bool: whether a document belongs to the group's chunks.
        sizes: the number of documents in each chunk, by the chunk's name.
    """

    source: Source
    paths: list[pathlib.Path]
    skipped: int
    is_member: np.ndarray
    sizes: dict[str, int]

    def read(self) -> Iterator[Chunk]:
        """Reads the files and yields the chunks."""
        documents = itertools.chain.from_iterable(map(self.source.read, self.paths))
        texts = itertools.compress(itertools.islice(documents, self.skipped, None), self.is_member)
        for name, size in self.sizes.items():
            yield Chunk(name=name, texts=list(itertools.islice(texts, size)))


def read_chunks(sources: NamedSources, split_of: np.ndarray) -> Iterator[Chunk]:
    """Reads all documents and yields the chunks of all splits as they become full.

    Args:
        sources: the sources in reading order.
        split_of: [documents], as `assign_splits` returns it.
    """
    counters: collections.Counter[str] = collections.Counter()
    next_split = iter(split_of)
    for _, source in sources:
        pending: dict[str, list[str]] = {split: [] for split in SPLITS}
        sizes = dict.fromkeys(SPLITS, 0)
        for text in source.documents():
            number = int(next(next_split))
            if number == DROPPED:
                continue
            split = SPLITS[number]
            pending[split].append(text)
            sizes[split] += len(text)
            if sizes[split] >= CHUNK_CHARACTERS:
                yield Chunk(name=_next_name(split, counters), texts=pending[split])
                pending[split], sizes[split] = [], 0
        yield from (Chunk(name=_next_name(split, counters), texts=texts) for split, texts in pending.items() if texts)


def plan_chunk_groups(
    sources: NamedSources, split_of: np.ndarray, lengths: Sequence[np.ndarray]
) -> Iterator[ChunkGroup]:
    """Yields the same chunks as `read_chunks`, in groups and without reading a document.

    Args:
        sources: the sources in reading order.
        split_of: [documents], as `assign_splits` returns it.
        lengths: for each file of all sources, the characters of its documents.
    """
    counters: collections.Counter[str] = collections.Counter()
    lengths, first = list(lengths), 0
    for _, source in sources:
        paths = source.files()
        source_lengths, lengths = lengths[: len(paths)], lengths[len(paths) :]
        file_starts = np.cumsum([0, *map(len, source_lengths)])  # the number of the first document of each file
        source_splits = split_of[first : first + file_starts[-1]]
        first += file_starts[-1]
        for number, split in enumerate(SPLITS):
            members = np.flatnonzero(source_splits == number)
            bounds = _chunk_bounds(np.concatenate([*source_lengths, np.zeros(0, int)])[members])
            # An empty file starts where the next one does; the rightmost of equal starts is the file with the document.
            file_of = np.searchsorted(file_starts, members[bounds[:-1]], "right") - 1
            for file, chunks in itertools.groupby(range(len(file_of)), key=lambda chunk: file_of[chunk]):
                for group in _divide(list(chunks)):
                    ends = [bounds[group[0]], *(bounds[chunk + 1] for chunk in group)]
                    start, stop = members[ends[0]], members[ends[-1] - 1] + 1
                    yield ChunkGroup(
                        source=source,
                        paths=paths[file : bisect.bisect_left(file_starts, stop)],
                        skipped=int(start - file_starts[file]),
                        is_member=source_splits[start:stop] == number,
                        sizes={
                            _next_name(split, counters): int(end - begin) for begin, end in itertools.pairwise(ends)
                        },
                    )


def _chunk_bounds(lengths: np.ndarray) -> list[int]:
    """Returns where chunks begin among documents of these lengths, and at last where the last one ends."""
    total, bounds = np.cumsum(lengths), [0]
    while bounds[-1] < len(total):
        before = total[bounds[-1] - 1] if bounds[-1] else 0
        bounds.append(min(int(np.searchsorted(total, before + CHUNK_CHARACTERS)) + 1, len(total)))
    return bounds


def _divide(chunks: list[int]) -> Iterator[list[int]]:
    """Divides the chunks that begin in one file into groups of bounded size."""
    return (chunks[start : start + MAX_CHUNKS_PER_GROUP] for start in range(0, len(chunks), MAX_CHUNKS_PER_GROUP))


def _next_name(split: str, counters: collections.Counter[str]) -> str:
    """Returns the name of the next shard of a split, and counts it."""
    counters[split] += 1
    return f"{split}-{counters[split]:05d}"
