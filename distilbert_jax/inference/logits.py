"""The logits of a model for encoded task rows, without dropout."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from distilbert_jax.data.batches import BatchLayout
from distilbert_jax.data.tasks.batches import iter_longest_first
from distilbert_jax.data.tasks.task_types.base import EncodedRow
from distilbert_jax.devices.mesh import ROW_AXES, put_batch
from distilbert_jax.io.console import progress_bar
from distilbert_jax.types import Apply, Batch

PredictStep = Callable[[Any, Batch], jax.Array]
"""(parameters, batch with leaves [accumulation, b, …]) -> logits [accumulation, b, p, v]."""


def make_predict_step(apply: Apply, mesh: Mesh) -> PredictStep:
    """Returns a jitted function that computes logits, with the rows split over all devices of the mesh.

    JAX compiles it once for each padded length.

    Args:
        apply: the forward pass of the model.
        mesh: the devices.
    """

    def per_device(params, batches):
        return jax.lax.map(lambda batch: apply({"params": params}, batch).logits, batches)

    return jax.jit(jax.shard_map(per_device, mesh=mesh, in_specs=(P(), P(None, ROW_AXES)), out_specs=P(None, ROW_AXES)))


def predict_rows(
    predict_step: PredictStep, params: Any, rows: Sequence[EncodedRow], *, layout: BatchLayout, mesh: Mesh, label: str
) -> list[np.ndarray]:
    """Computes the logits of all rows and shows a progress bar.

    Args:
        predict_step: what `make_predict_step` returned.
        params: the parameters of the model, replicated on every device.
        rows: the encoded rows.
        layout: the shape of a batch.
        mesh: the devices of `predict_step`.
        label: the text in front of the progress bar.

    Returns:
        The logits [p v] of each row, in the order of `rows` and without padding.

    Raises:
        ValueError: the logits of a row are not finite.
    """
    logits: list[np.ndarray] = [np.zeros(0)] * len(rows)
    with progress_bar(label, total=len(rows), stays=False) as advance:
        done = 0
        for chosen, batch in iter_longest_first(rows, layout):
            batch_logits = np.asarray(predict_step(params, Batch(**put_batch(batch, mesh))))
            per_row = batch_logits.reshape(-1, *batch_logits.shape[2:])
            # A batch may end with empty rows, so there can be more logits than chosen rows.
            for i, row_logits in zip(chosen.tolist(), per_row, strict=False):
                logits[i] = _remove_padding(row_logits, rows[i])
                if not np.isfinite(logits[i]).all():
                    raise ValueError(
                        f"{label}: the model's logits for example {rows[i].example + 1} are NaN or infinite; its "
                        "weights are damaged or too large, or its training diverged: use another model"
                    )
            advance(done := done + len(chosen))
    return logits


def _remove_padding(logits: np.ndarray, row: EncodedRow) -> np.ndarray:
    """Returns the logits of the row's own predictions and answers."""
    num_answers = logits.shape[1] if row.allowed_answers is None else row.allowed_answers.shape[1]
    return logits[: len(row.prediction_weights), :num_answers]
