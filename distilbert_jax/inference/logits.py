"""A model's scores of a task's rows, in evaluation mode."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from distilbert_jax.data.batches import Layout
from distilbert_jax.data.tasks.batches import by_length
from distilbert_jax.data.tasks.task_types.base import Row
from distilbert_jax.devices.mesh import ROWS, place
from distilbert_jax.io.console import bar
from distilbert_jax.types import Apply, Batch

Scorer = Callable[[Any, Batch], jax.Array]
"""(parameters, batch of [accumulation, b, …] leaves) -> scores [accumulation, b, p, v]."""


def make_scorer(apply: Apply, mesh: Mesh) -> Scorer:
    """One compiled program a length."""

    def of_device(params, batches):
        return jax.lax.map(lambda batch: apply({"params": params}, batch).scores, batches)

    return jax.jit(jax.shard_map(of_device, mesh=mesh, in_specs=(P(), P(None, ROWS)), out_specs=P(None, ROWS)))


def score(
    scorer: Scorer, params: Any, rows: Sequence[Row], *, layout: Layout, mesh: Mesh, label: str
) -> list[np.ndarray]:
    """[p v] of each row, without what padding added."""
    scores: list[np.ndarray] = [np.zeros(0)] * len(rows)
    with bar(label, total=len(rows), stays=False) as advance:
        done = 0
        for chosen, batch in by_length(rows, layout):
            z = np.asarray(scorer(params, Batch(**place(batch, mesh))))
            for i, row_scores in zip(chosen.tolist(), z.reshape(-1, *z.shape[2:]), strict=False):
                scores[i] = _cut(row_scores, rows[i])
            advance(done := done + len(chosen))
    return scores


def _cut(z: np.ndarray, row: Row) -> np.ndarray:
    answers = z.shape[1] if row.allowed is None else row.allowed.shape[1]
    return z[: len(row.asked), :answers]
