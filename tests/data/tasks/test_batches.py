"""Task batches: every row once in each epoch, little padding, few shapes."""

import dataclasses

import numpy as np
import pytest

from distilbert_jax.data.batches import BatchLayout
from distilbert_jax.data.tasks.batches import TaskBatches, iter_longest_first, padded_length, stack_rows
from distilbert_jax.data.tasks.task_types.base import EncodedRow


def row(length, *, tags=False):
    num_predictions = length if tags else 1
    return EncodedRow(
        example=0,
        tokens=np.full(length, 7, np.int32),
        segment_ids=np.ones(length, np.int32),
        token_types=np.zeros(length, np.int32),
        predict_positions=np.arange(num_predictions, dtype=np.int32),
        prediction_weights=np.ones(num_predictions, np.float32),
        label_weights=np.ones(num_predictions, np.float32),
        labels=np.ones(num_predictions, np.int32),
    )


LAYOUT = BatchLayout(accumulation=2, rows=4)
LENGTHS = np.random.default_rng(0).integers(3, 60, 101)


@pytest.fixture
def batches():
    return TaskBatches(rows=[row(length) for length in LENGTHS], seed=0, batch_size=8, layout=LAYOUT)


def test_every_row_once_in_each_epoch(batches):
    seen = [batch["row_ids"][batch["label_weights"][..., 0] > 0] for batch in batches.iter_epoch(0)]
    assert len(seen) == len(batches) == 13
    assert sorted(np.concatenate(seen).tolist()) == list(range(101))


def test_the_order_depends_on_seed_and_epoch(batches):
    def order(batches, epoch):
        return np.concatenate([batch["row_ids"].ravel() for batch in batches.iter_epoch(epoch)]).tolist()

    assert order(batches, 1) == order(batches, 1)
    assert order(batches, 0) != order(batches, 1)
    assert order(batches, 0) != order(TaskBatches(rows=batches.rows, seed=1, batch_size=8, layout=LAYOUT), 0)


def test_lengths_are_few_and_padding_small(batches):
    assert [padded_length(n) for n in (1, 9, 16, 17, 25, 33, 49, 65, 500)] == [8, 12, 16, 24, 32, 48, 64, 96, 512]
    shapes = {batch["tokens"].shape for batch in batches.iter_epoch(0)}
    assert shapes <= {(2, 4, length) for length in (8, 12, 16, 24, 32, 48, 64)}
    real = sum((batch["segment_ids"] > 0).sum() for batch in batches.iter_epoch(0))
    assert real == LENGTHS.sum()
    assert real / sum(batch["tokens"].size for batch in batches.iter_epoch(0)) > 0.75


def test_empty_rows_have_no_weight(batches):
    (last,) = [batch for batch in batches.iter_epoch(0) if (batch["segment_ids"].max(-1) == 0).any()]
    empty = last["segment_ids"].max(-1) == 0
    assert empty.sum() == 3
    assert last["prediction_weights"][empty].sum() == last["label_weights"][empty].sum() == 0


def test_a_batch_smaller_than_its_layout(batches):
    """If the number of devices does not divide the batch, it has the same rows as on one device, and empty ones."""
    few = dataclasses.replace(batches, batch_size=6)
    assert len(few) == 17

    def row_ids(batches):
        return [sorted(b["row_ids"][b["label_weights"][..., 0] > 0].tolist()) for b in batches.iter_epoch(0)]

    assert row_ids(few) == row_ids(dataclasses.replace(few, layout=BatchLayout(accumulation=1, rows=6)))


def test_tags_are_padded_like_tokens():
    rows = [row(length, tags=True) for length in (5, 9, 9)]
    batch = stack_rows(rows, np.array([0, 1]), LAYOUT, epoch=0)
    assert batch["labels"].shape == batch["predict_positions"].shape == (2, 4, 12)
    assert batch["prediction_weights"].sum() == 14


def test_positions_restart_in_each_document():
    one = row(6)
    one.segment_ids[3:] = 2
    batch = stack_rows([one], np.array([0]), LAYOUT, epoch=0)
    assert batch["positions"][0, 0, :6].tolist() == [0, 1, 2, 0, 1, 2]


def test_the_longest_come_first(batches):
    chosen = np.concatenate([rows for rows, _ in iter_longest_first(batches.rows, LAYOUT)])
    assert sorted(chosen.tolist()) == list(range(101))
    assert LENGTHS[chosen].tolist() == sorted(LENGTHS.tolist(), reverse=True)
