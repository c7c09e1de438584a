"""Batches of encoded task rows.

Rows of similar length share a batch, and each batch is padded to one of a few lengths. This keeps padding small and
the number of compiled programs low.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from distilbert_jax.data.batches import BatchLayout
from distilbert_jax.data.tasks.task_types.base import EncodedRow
from distilbert_jax.seeds import seed_words

SORT_POOL_BATCHES = 32  # rows are sorted by length only within a random pool of this many batches
MIN_LENGTH_TOKENS = 8

BatchArrays = dict[str, np.ndarray]
"""The leaves of a `types.Batch` by field name, each [accumulation, rows, …]."""


def padded_length(length: int) -> int:
    """Returns the smallest of the lengths 8, 12, 16, 24, 32, 48, … that holds `length` tokens."""
    power = MIN_LENGTH_TOKENS
    while power < length:
        if length <= power * 3 // 2:
            return power * 3 // 2
        power *= 2
    return power


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskBatches:
    """The training batches of a task, in an order that depends only on the seed and the epoch.

    Each epoch contains every row once.

    Attributes:
        rows: all encoded rows of the training split.
        seed: seed of the order.
        batch_size: rows in a batch. The last rows of an epoch may form a smaller batch.
        layout: shape of a batch on the devices. Where it has room for more than `batch_size` rows, the remaining rows
            are empty and have weight 0.
    """

    rows: Sequence[EncodedRow]
    seed: int
    batch_size: int
    layout: BatchLayout

    def __len__(self) -> int:
        """Returns the number of batches in an epoch."""
        return -(-len(self.rows) // self.batch_size)

    def iter_epoch(self, epoch: int) -> Iterator[BatchArrays]:
        """Yields the batches of one epoch, counted from 0, in an order drawn from the seed and the epoch.

        Rows of similar length share a batch.
        """
        random = np.random.default_rng((*seed_words(self.seed), epoch))
        order = random.permutation(len(self.rows))
        lengths = np.array([len(row.tokens) for row in self.rows])
        pool_size = SORT_POOL_BATCHES * self.batch_size
        order = np.concatenate(
            [
                pool[np.argsort(lengths[pool], kind="stable")]
                for pool in np.split(order, range(pool_size, len(order), pool_size))
            ]
        )
        # Without this second permutation, training would see short rows before long ones in each pool.
        for batch in random.permutation(len(self)).tolist():
            yield stack_rows(self.rows, order[batch * self.batch_size :][: self.batch_size], self.layout, epoch=epoch)


def iter_longest_first(rows: Sequence[EncodedRow], layout: BatchLayout) -> Iterator[tuple[np.ndarray, BatchArrays]]:
    """Yields batches for inference, the longest rows first, so that a lack of memory shows in the first batch.

    Yields:
        (indices of the rows in the batch, the batch).
    """
    order = np.argsort([-len(row.tokens) for row in rows], kind="stable")
    for start in range(0, len(rows), layout.size):
        chosen = order[start : start + layout.size]
        yield chosen, stack_rows(rows, chosen, layout, epoch=0)


def stack_rows(rows: Sequence[EncodedRow], chosen: np.ndarray, layout: BatchLayout, *, epoch: int) -> BatchArrays:
    """Returns the chosen rows as one padded batch.

    Args:
        rows: all rows; they come from the same task type.
        chosen: indices of the rows to stack, at most `layout.size`.
        layout: the shape of the batch.
        epoch: number of the epoch, which becomes part of the random keys.

    Returns:
        {field of Batch: [accumulation, rows, …]}.
    """
    length = padded_length(max(len(rows[i].tokens) for i in chosen))
    first = rows[0]

    def pad(count: int) -> int:
        """Returns the padded size of an axis: that of the tokens if the axis has one entry for each token."""
        return length if count == len(first.tokens) else count

    num_predictions, num_positions = pad(len(first.prediction_weights)), pad(len(first.predict_positions))
    shapes = {
        "tokens": (length,),
        "segment_ids": (length,),
        "token_types": (length,),
        "predict_positions": (num_positions,),
        "prediction_weights": (num_predictions,),
        "label_weights": (num_predictions,),
        "labels": (num_predictions, *first.labels.shape[1:]),
        "allowed_answers": (num_predictions, length),
    }
    if first.allowed_answers is None:
        del shapes["allowed_answers"]
    batch = {name: np.zeros((layout.size, *shape), getattr(first, name).dtype) for name, shape in shapes.items()}
    for batch_row, i in enumerate(chosen.tolist()):
        for name, array in batch.items():
            x = getattr(rows[i], name)
            array[batch_row][tuple(slice(size) for size in x.shape)] = x
    # Positions count from the start of each packed document, where the segment id changes.
    indices = np.broadcast_to(np.arange(length, dtype=np.int32), batch["segment_ids"].shape)
    is_start = np.diff(batch["segment_ids"], axis=1, prepend=-1) != 0
    batch["positions"] = indices - np.maximum.accumulate(np.where(is_start, indices, 0), axis=1)
    batch["row_ids"] = np.zeros(layout.size, np.int32)
    batch["row_ids"][: len(chosen)] = chosen
    batch["epochs"] = np.full(layout.size, epoch, np.int32)
    return {name: x.reshape(layout.accumulation, layout.rows, *x.shape[1:]) for name, x in batch.items()}
