"""Supplies the token rows of every step. The batch of step n is a function of (seed, n) alone, so that a run that is
resumed needs no saved reading position.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import grain
import numpy as np

from distilbert_jax.io import files, untrusted
from distilbert_jax.io.console import progress_bar
from distilbert_jax.seeds import seed_words

PERMUTATION_ROUNDS = 4
"""Rounds of the cipher that permutes the rows of an epoch. Another number gives another order."""


class Shards:
    """All rows of one split of a prepared corpus, read from disk by their index."""

    def __init__(self, folder: pathlib.Path, shards: Sequence[dict[str, Any]]):
        """Opens the arrays of all shards and checks every file against its SHA-256 in the manifest.

        Args:
            folder: the folder of the prepared corpus.
            shards: the entries of one split in the manifest.

        Raises:
            ValueError: If a file is missing or damaged.
        """
        self._starts = np.cumsum([0, *(shard["rows"] for shard in shards)])
        self._arrays: dict[str, list[np.ndarray]] = {"tokens": [], "segment_ids": []}
        with progress_bar(f"checking shards in {folder}", total=len(shards)) as advance:
            for num_checked, shard in enumerate(shards, 1):
                for array_name, arrays in self._arrays.items():
                    path = folder / f"{shard['name']}.{array_name}.npy"
                    if not path.is_file():
                        raise ValueError(f"shard {path} is missing: delete {folder} and prepare the corpus again")
                    if files.sha256(path) != shard["sha256"][array_name]:
                        raise ValueError(
                            f"shard {path} is damaged (its SHA-256 differs from the manifest's): delete {folder} and "
                            "prepare the corpus again"
                        )
                    arrays.append(untrusted.load_array(path, kind="u", axes=2))
                if {len(arrays[-1]) for arrays in self._arrays.values()} != {shard["rows"]}:
                    raise ValueError(
                        f"shard {shard['name']} in {folder} does not have the {shard['rows']} rows that the manifest "
                        f"states: delete {folder} and prepare the corpus again"
                    )
                advance(num_checked)

    def __len__(self) -> int:
        """Returns the number of rows in all shards."""
        return int(self._starts[-1])

    def read(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Reads some rows.

        Args:
            rows: [...] integers, indices of rows over all shards.

        Returns:
            {"tokens", "segment_ids"}, each [..., t] int32.
        """
        shards = np.searchsorted(self._starts, rows, side="right") - 1
        row_pairs = list(zip(shards.ravel().tolist(), (rows - self._starts[shards]).ravel().tolist(), strict=True))
        content = {
            name: np.stack([arrays[shard][row] for shard, row in row_pairs]) for name, arrays in self._arrays.items()
        }
        return {name: x.astype(np.int32).reshape(*rows.shape, -1) for name, x in content.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchLayout:
    """How a global batch is divided: into micro-batches, each of them into one share per process.

    Attributes:
        accumulation: micro-batches of a global batch.
        rows: rows of one micro-batch, over all processes.
        process_index: the number of this process.
        process_count: the number of processes. It divides `rows`.
    """

    accumulation: int
    rows: int
    process_index: int = 0
    process_count: int = 1

    @property
    def size(self) -> int:
        """Returns the number of rows of a global batch."""
        return self.accumulation * self.rows

    def row_numbers(self, batch: int) -> np.ndarray:
        """Returns which rows of the run this process reads for one batch.

        Args:
            batch: the number of the batch, from 0.

        Returns:
            [accumulation, rows / process_count] integers: row i is the i-th that the run reads.
        """
        rows_per_process = self.rows // self.process_count
        own_rows = self.process_index * rows_per_process + np.arange(rows_per_process)
        return batch * self.size + np.arange(self.accumulation)[:, None] * self.rows + own_rows[None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batches:
    """The batches of a run: `batches[n]` is what this process reads for step n.

    A batch is {"row_ids", "epochs", "tokens", "segment_ids"}: the first two [accumulation, rows], the others
    [accumulation, rows, t], all int32.

    Each epoch is a permutation of all rows, keyed by seed and epoch. With N rows in the corpus, row i of the run is
    row i mod N of the permutation of epoch i div N. The process, device or micro-batch that reads a row changes
    nothing about it.
    """

    shards: Shards
    seed: int
    steps: int  # of the run
    layout: BatchLayout

    def __len__(self) -> int:
        """Returns the number of steps."""
        return self.steps

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        """Reads the batch of one step, counted from 0."""
        epochs, epoch_rows = np.divmod(self.layout.row_numbers(step), len(self.shards))
        seeds = {epoch: _permutation_seed(self.seed, epoch) for epoch in np.unique(epochs).tolist()}
        permute = functools.partial(
            grain.experimental.index_shuffle, max_index=len(self.shards) - 1, rounds=PERMUTATION_ROUNDS
        )
        pairs = zip(epoch_rows.ravel().tolist(), epochs.ravel().tolist(), strict=True)
        rows = np.array([permute(row, seed=seeds[epoch]) for row, epoch in pairs]).reshape(epoch_rows.shape)
        return {"row_ids": rows.astype(np.int32), "epochs": epochs.astype(np.int32), **self.shards.read(rows)}

    def iter_from(self, step: int) -> Iterator[dict[str, np.ndarray]]:
        """Yields the batches from `step` on. Other threads read ahead."""
        source = grain.MapDataset.source(self)[step:]
        return iter(source.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)))


def iter_in_order(shards: Shards, *, count: int, layout: BatchLayout) -> Iterator[dict[str, np.ndarray]]:
    """Yields the first `count` rows in the order of the corpus, in batches as `Batches` has them.

    The last batch is filled up with empty rows: all their segment ids are 0.
    """
    for batch in range(-(-count // layout.size)):
        rows = layout.row_numbers(batch)
        content = shards.read(np.where(rows < count, rows, 0))
        content["segment_ids"] = content["segment_ids"] * (rows < count)[..., None]
        yield {"row_ids": rows.astype(np.int32), "epochs": np.zeros_like(rows, np.int32), **content}


def _permutation_seed(seed: int, epoch: int) -> int:
    """Returns the seed of an epoch's permutation. Neighbouring seeds and epochs give unrelated ones."""
    return int(np.random.SeedSequence((*seed_words(seed), epoch)).generate_state(1)[0])
