"""The rows of a step. The batch at step n is a function of (seed, n): there is no state to save, and none to lose."""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import grain
import numpy as np

from distilbert_jax.io import files, untrusted
from distilbert_jax.io.console import progress_bar

ROUNDS = 4  # of the permutation's cipher


class Shards:
    """All rows of one side of a prepared corpus, on disk, by index."""

    def __init__(self, folder: pathlib.Path, shards: Sequence[dict[str, Any]]):
        """Checks every file against its hash in the manifest. ValueError where one is missing or damaged."""
        self._starts = np.cumsum([0, *(shard["rows"] for shard in shards)])
        self._parts: dict[str, list[np.ndarray]] = {"tokens": [], "segment_ids": []}
        with progress_bar(f"checking shards in {folder}", total=len(shards)) as advance:
            for done, shard in enumerate(shards, 1):
                for part, arrays in self._parts.items():
                    path = folder / f"{shard['name']}.{part}.npy"
                    if not path.is_file():
                        raise ValueError(f"shard {path} is missing: delete {folder} and prepare the corpus anew")
                    if files.sha256(path) != shard["sha256"][part]:
                        raise ValueError(
                            f"shard {path} is damaged (its SHA-256 is not the manifest's): delete {folder} and prepare "
                            "the corpus anew"
                        )
                    arrays.append(untrusted.load_array(path, kind="u", axes=2))
                if {len(arrays[-1]) for arrays in self._parts.values()} != {shard["rows"]}:
                    raise ValueError(f"shard {shard['name']} in {folder} has not the rows that its manifest says")
                advance(done)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """{"tokens", "segments"} of some rows, each int32 with the row's length as a last axis."""
        shard = np.searchsorted(self._starts, rows, side="right") - 1
        places = list(zip(shard.ravel().tolist(), (rows - self._starts[shard]).ravel().tolist(), strict=True))
        read = {part: np.stack([arrays[s][row] for s, row in places]) for part, arrays in self._parts.items()}
        return {part: x.astype(np.int32).reshape(*rows.shape, -1) for part, x in read.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchLayout:
    """How a global batch falls apart: micro-batches of `rows` rows, of which this process reads its share."""

    accumulation: int
    rows: int  # of a micro-batch, over all processes
    process_index: int = 0
    process_count: int = 1

    @property
    def size(self) -> int:
        """Rows of a global batch."""
        return self.accumulation * self.rows

    def places(self, batch: int) -> np.ndarray:
        """[accumulation, this process's rows]: which rows of the run batch number `batch` is made of."""
        share = self.rows // self.process_count
        mine = self.process_index * share + np.arange(share)
        return batch * self.size + np.arange(self.accumulation)[:, None] * self.rows + mine[None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batches:
    """batches[n] is what this process reads of step n: {rows, epochs, tokens, segments}, each [accumulation, rows, …].

    An epoch is a keyed permutation of all rows; row i of the run is place i mod n of epoch i div n. Which process,
    device or micro-batch a row falls on changes nothing about it.
    """

    shards: Shards
    seed: int
    steps: int
    layout: BatchLayout

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        epochs, places = np.divmod(self.layout.places(step), len(self.shards))
        keys = {epoch: _key(self.seed, epoch) for epoch in np.unique(epochs).tolist()}
        permuted = functools.partial(grain.experimental.index_shuffle, max_index=len(self.shards) - 1, rounds=ROUNDS)
        pairs = zip(places.ravel().tolist(), epochs.ravel().tolist(), strict=True)
        rows = np.array([permuted(place, seed=keys[epoch]) for place, epoch in pairs]).reshape(places.shape)
        return {"row_ids": rows.astype(np.int32), "epochs": epochs.astype(np.int32), **self.shards.read(rows)}

    def iter_from(self, step: int) -> Iterator[dict[str, np.ndarray]]:
        """The batches from `step` on, read ahead by other threads."""
        source = grain.MapDataset.source(self)[step:]
        return iter(source.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)))


def iter_in_order(shards: Shards, *, count: int, layout: BatchLayout) -> Iterator[dict[str, np.ndarray]]:
    """The first `count` rows as they stand, laid out like a step's; the last batch is filled up with empty rows."""
    for batch in range(-(-count // layout.size)):
        rows = layout.places(batch)
        read = shards.read(np.where(rows < count, rows, 0))
        read["segment_ids"] = read["segment_ids"] * (rows < count)[..., None]
        yield {"row_ids": rows.astype(np.int32), "epochs": np.zeros_like(rows, np.int32), **read}


def _key(seed: int, epoch: int) -> int:
    """Of an epoch's permutation; neighbouring seeds and epochs have nothing in common."""
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0])
