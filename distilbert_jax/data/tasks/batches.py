"""Rows of a task as batches: rows of like length together, padded to one of few lengths, so that padding is small and
few programs are compiled.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from distilbert_jax.data.batches import BatchLayout
from distilbert_jax.data.tasks.task_types.base import EncodedRow

POOL = 32  # batches whose rows are sorted by length among themselves
SHORTEST = 8

Arrays = dict[str, np.ndarray]


def padded_length(length: int) -> int:
    """The next of 8, 12, 16, 24, 32, 48, … tokens."""
    power = SHORTEST
    while power < length:
        if length <= power * 3 // 2:
            return power * 3 // 2
        power *= 2
    return power


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskBatches:
    """The batches of an epoch, a function of (seed, epoch): every row once, `size` a batch, in the last one fewer.

    Each is {field of Batch: [accumulation, rows, …]}, with empty rows where the layout has room for more.
    """

    rows: Sequence[EncodedRow]
    seed: int
    batch_size: int
    layout: BatchLayout

    def __len__(self) -> int:
        """Of an epoch."""
        return -(-len(self.rows) // self.batch_size)

    def epoch(self, epoch: int) -> Iterator[Arrays]:
        random = np.random.default_rng((self.seed, epoch))
        order = random.permutation(len(self.rows))
        lengths = np.array([len(row.tokens) for row in self.rows])
        pool = POOL * self.batch_size
        order = np.concatenate(
            [
                chunk[np.argsort(lengths[chunk], kind="stable")]
                for chunk in np.split(order, range(pool, len(order), pool))
            ]
        )
        for batch in random.permutation(len(self)).tolist():
            yield stack(self.rows, order[batch * self.batch_size :][: self.batch_size], self.layout, epoch=epoch)


def by_length(rows: Sequence[EncodedRow], layout: BatchLayout) -> Iterator[tuple[np.ndarray, Arrays]]:
    """(which rows, their batch), the longest first: so that what does not fit into memory shows at once."""
    order = np.argsort([-len(row.tokens) for row in rows], kind="stable")
    for start in range(0, len(rows), layout.size):
        chosen = order[start : start + layout.size]
        yield chosen, stack(rows, chosen, layout, epoch=0)


def stack(rows: Sequence[EncodedRow], chosen: np.ndarray, layout: BatchLayout, *, epoch: int) -> Arrays:
    """The chosen rows as one batch. Where a row asks as many questions as it has tokens, these are padded alike."""
    length = padded_length(max(len(rows[i].tokens) for i in chosen))
    first = rows[0]
    padded = lambda count: length if count == len(first.tokens) else count
    questions, places = padded(len(first.prediction_weights)), padded(len(first.predict_positions))
    shapes = {
        "tokens": (length,),
        "segment_ids": (length,),
        "token_types": (length,),
        "predict_positions": (places,),
        "prediction_weights": (questions,),
        "label_weights": (questions,),
        "labels": (questions, *first.labels.shape[1:]),
        "allowed_answers": (questions, length),
    }
    if first.allowed_answers is None:
        del shapes["allowed_answers"]
    batch = {name: np.zeros((layout.size, *shape), getattr(first, name).dtype) for name, shape in shapes.items()}
    for place, i in enumerate(chosen.tolist()):
        for name, array in batch.items():
            x = getattr(rows[i], name)
            array[place][tuple(slice(size) for size in x.shape)] = x
    at = np.broadcast_to(np.arange(length, dtype=np.int32), batch["segment_ids"].shape)
    starts = np.diff(batch["segment_ids"], axis=1, prepend=-1) != 0
    batch["positions"] = at - np.maximum.accumulate(np.where(starts, at, 0), axis=1)
    batch["row_ids"] = np.zeros(layout.size, np.int32)
    batch["row_ids"][: len(chosen)] = chosen
    batch["epochs"] = np.full(layout.size, epoch, np.int32)
    return {name: x.reshape(layout.accumulation, layout.rows, *x.shape[1:]) for name, x in batch.items()}
