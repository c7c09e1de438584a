"""A model's scores of a task's rows, in evaluation mode."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from distilbert_jax.data.batches import BatchLayout
from distilbert_jax.data.tasks.batches import by_length
from distilbert_jax.data.tasks.task_types.base import EncodedRow
from distilbert_jax.devices.mesh import ROW_AXES, put_batch
from distilbert_jax.io.console import progress_bar
from distilbert_jax.types import Apply, Batch

PredictStep = Callable[[Any, Batch], jax.Array]
"""(parameters, batch of [accumulation, b, …] leaves) -> scores [accumulation, b, p, v]."""


def make_predict_step(apply: Apply, mesh: Mesh) -> PredictStep:
    """One compiled program a length."""

    def of_device(params, batches):
        return jax.lax.map(lambda batch: apply({"params": params}, batch).logits, batches)

    return jax.jit(jax.shard_map(of_device, mesh=mesh, in_specs=(P(), P(None, ROW_AXES)), out_specs=P(None, ROW_AXES)))


def predict_rows(
    predict_step: PredictStep, params: Any, rows: Sequence[EncodedRow], *, layout: BatchLayout, mesh: Mesh, label: str
) -> list[np.ndarray]:
    """[p v] of each row, without what padding added."""
    scores: list[np.ndarray] = [np.zeros(0)] * len(rows)
    with progress_bar(label, total=len(rows), stays=False) as advance:
        done = 0
        for chosen, batch in by_length(rows, layout):
            z = np.asarray(predict_step(params, Batch(**put_batch(batch, mesh))))
            for i, row_scores in zip(chosen.tolist(), z.reshape(-1, *z.shape[2:]), strict=False):
                scores[i] = _cut(row_scores, rows[i])
            advance(done := done + len(chosen))
    return scores


def _cut(z: np.ndarray, row: EncodedRow) -> np.ndarray:
    answers = z.shape[1] if row.allowed_answers is None else row.allowed_answers.shape[1]
    return z[: len(row.prediction_weights), :answers]
