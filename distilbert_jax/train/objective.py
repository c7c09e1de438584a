"""What a student learns from: the models, the losses, and the questions asked of every row."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jaxtyping import Array, Int

from distilbert_jax.devices.sharding import sum_over_devices
from distilbert_jax.losses import base
from distilbert_jax.types import Apply, Batch, ModelOutputs, PackedRows, RowKeys

MASKING_KEY, DROPOUT_KEY = 0, 1  # what a row's randomness is for

BatchMaker = Callable[[RowKeys, Any], Batch]  # of Rows; or of a Batch, where a task asks the same whatever the key
Seed = int | Int[Array, ""]


def row_keys(seed: Seed, batch: PackedRows | Batch, purpose: int) -> RowKeys:
    """A key per row from (seed, purpose, epoch, row): the step, the place in the batch and the devices have no say."""
    root = jax.random.fold_in(jax.random.key(seed), purpose)
    return jax.vmap(lambda epoch, row: jax.random.fold_in(jax.random.fold_in(root, epoch), row))(
        batch.epochs, batch.row_ids
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
    """What a student learns from: who answers, what is asked of every row, and how the answers are judged."""

    student: Apply
    teachers: Mapping[str, Apply]
    losses: Mapping[str, base.Loss]
    extra_metrics: Mapping[str, base.LogitLoss] = dataclasses.field(default_factory=dict)  # not learned from
    make_batch: BatchMaker
    seed: Seed

    def teacher_outputs(self, teacher_params: Mapping[str, Any], batch: Batch) -> dict[str, ModelOutputs]:
        return {name: apply({"params": teacher_params[name]}, batch) for name, apply in self.teachers.items()}

    def student_outputs(self, params: Any, batch: Batch) -> ModelOutputs:
        """The student's, with dropout."""
        return self.student({"params": params}, batch, keys=row_keys(self.seed, batch, DROPOUT_KEY))

    def make_batches(self, rows: PackedRows | Batch) -> tuple[Batch, dict[str, jax.Array]]:
        """What is asked of every row of this device, and what each loss divides by: its weights over all devices."""
        batches = jax.vmap(lambda r: self.make_batch(row_keys(self.seed, r, MASKING_KEY), r))(rows)
        return batches, sum_over_devices(base.sum_weights({**self.losses, **self.extra_metrics}, batches))
