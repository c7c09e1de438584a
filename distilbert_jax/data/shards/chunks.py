"""Which documents are packed together: of each source and side, in order, some two million characters at a time.

The rule stands here twice: for who reads all documents in one stream, and for who knows but their lengths and lets
others read.
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

CHUNK = 2**21  # characters packed together
TOGETHER = 32  # chunks at most that one worker reads a file for

Sources = Sequence[tuple[str, Source]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chunk:
    """Documents that are packed together, and the name of their shard."""

    name: str
    texts: list[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """Some chunks that begin in one file, before they are read: the documents that are `wanted` from one on, by the
    number of them in each chunk.
    """

    source: Source
    paths: list[pathlib.Path]
    skipped: int  # documents of the first path
    wanted: np.ndarray  # [documents], bool
    sizes: dict[str, int]  # by the names of the chunks

    def read(self) -> Iterator[Chunk]:
        documents = itertools.chain.from_iterable(map(self.source.read, self.paths))
        texts = itertools.compress(itertools.islice(documents, self.skipped, None), self.wanted)
        for name, size in self.sizes.items():
            yield Chunk(name=name, texts=list(itertools.islice(texts, size)))


def stream(sources: Sources, side_of: np.ndarray) -> Iterator[Chunk]:
    """Chunks as they come, of both sides, with their texts. `side_of` numbers every document."""
    numbers: collections.Counter[str] = collections.Counter()
    side = iter(side_of)
    for _, source in sources:
        waiting: dict[str, list[str]] = {name: [] for name in SPLITS}
        sizes = dict.fromkeys(SPLITS, 0)
        for text in source.documents():
            number = int(next(side))
            if number == DROPPED:
                continue
            name = SPLITS[number]
            waiting[name].append(text)
            sizes[name] += len(text)
            if sizes[name] >= CHUNK:
                yield Chunk(name=_named(name, numbers), texts=waiting[name])
                waiting[name], sizes[name] = [], 0
        yield from (Chunk(name=_named(name, numbers), texts=texts) for name, texts in waiting.items() if texts)


def parts(sources: Sources, side_of: np.ndarray, lengths: Sequence[np.ndarray]) -> Iterator[Part]:
    """The same chunks, without their texts. `lengths` are those of the documents of each file."""
    numbers: collections.Counter[str] = collections.Counter()
    lengths, first = list(lengths), 0
    for _, source in sources:
        paths = source.files()
        here, lengths = lengths[: len(paths)], lengths[len(paths) :]
        begins = np.cumsum([0, *map(len, here)])  # the number of the first document of each file
        sides = side_of[first : first + begins[-1]]
        first += begins[-1]
        for number, name in enumerate(SPLITS):
            at = np.flatnonzero(sides == number)
            cuts = _cuts(np.concatenate([*here, np.zeros(0, int)])[at])
            file_of = np.searchsorted(begins, at[cuts[:-1]], "right") - 1
            for file, chunks in itertools.groupby(range(len(file_of)), key=lambda chunk: file_of[chunk]):
                for group in _groups(list(chunks)):
                    ends = [cuts[group[0]], *(cuts[chunk + 1] for chunk in group)]
                    start, stop = at[ends[0]], at[ends[-1] - 1] + 1
                    yield Part(
                        source=source,
                        paths=paths[file : bisect.bisect_left(begins, stop)],
                        skipped=int(start - begins[file]),
                        wanted=sides[start:stop] == number,
                        sizes={_named(name, numbers): int(end - begin) for begin, end in itertools.pairwise(ends)},
                    )


def _cuts(lengths: np.ndarray) -> list[int]:
    """Where chunks begin among documents of these lengths, and where the last one ends."""
    total, cuts = np.cumsum(lengths), [0]
    while cuts[-1] < len(total):
        before = total[cuts[-1] - 1] if cuts[-1] else 0
        cuts.append(min(int(np.searchsorted(total, before + CHUNK)) + 1, len(total)))
    return cuts


def _groups(chunks: list[int]) -> Iterator[list[int]]:
    return (chunks[start : start + TOGETHER] for start in range(0, len(chunks), TOGETHER))


def _named(side: str, numbers: collections.Counter[str]) -> str:
    numbers[side] += 1
    return f"{side}-{numbers[side]:05d}"
