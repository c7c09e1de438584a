"""The objective of a distillation: the models, the losses, and how rows become batches with labels."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from distilbert_jax.devices.sharding import sum_over_devices
from distilbert_jax.losses import base
from distilbert_jax.types import Apply, Batch, ModelOutputs, PackedRows, RowKeys

MASKING_KEY, DROPOUT_KEY = 0, 1  # the two purposes of a row's random keys, folded into the seed

BatchMaker = Callable[[RowKeys, Any], Batch]
"""make_batch(keys, rows) -> Batch: chooses the predictions of [b, …] rows.

In pretraining `rows` are PackedRows, which it masks by the keys. In fine-tuning they are a Batch already, and it
returns them unchanged.
"""

Seed = int | Int[Array, ""]


def row_keys(seed: Seed, batch: PackedRows | Batch, purpose: int) -> RowKeys:
    """Returns one random key per row, [b], from (seed, purpose, epoch, row).

    The keys do not depend on the step, on the place in the batch or on the devices, so a run can be resumed or spread
    over other devices and draws the same masks and the same dropout.

    Args:
        seed: the seed of the run.
        batch: the rows, with [b] `epochs` and `row_ids`.
        purpose: MASKING_KEY or DROPOUT_KEY.
    """
    root = jax.random.fold_in(jax.random.key(seed), purpose)

    def per_row(epoch, row):
        return jax.random.fold_in(jax.random.fold_in(root, epoch), row)

    return jax.vmap(per_row)(batch.epochs, batch.row_ids)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
    """What a student is trained on: its teachers, its losses, and how rows become batches with labels.

    Attributes:
        student: the student's forward pass.
        teachers: the teachers' forward passes, by name.
        losses: the losses, by name. Their weighted sum is minimised.
        extra_metrics: losses that are computed and logged, but not trained on.
        make_batch: makes a batch from rows, such as by masking tokens.
        seed: the seed of masks and dropout.
        fixed_weight_sums: by what the sums of some losses are divided in every step, by name. All others are divided by
            the sum of their weights over the global batch.
    """

    student: Apply
    teachers: Mapping[str, Apply]
    losses: Mapping[str, base.Loss]
    extra_metrics: Mapping[str, base.LogitLoss] = dataclasses.field(default_factory=dict)
    make_batch: BatchMaker
    seed: Seed
    fixed_weight_sums: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def teacher_outputs(self, teacher_params: Mapping[str, Any], batch: Batch) -> dict[str, ModelOutputs]:
        """Returns the outputs of each teacher, by name. Teachers run without dropout."""
        return {name: apply({"params": teacher_params[name]}, batch) for name, apply in self.teachers.items()}

    def student_outputs(self, params: Any, batch: Batch) -> ModelOutputs:
        """Returns the outputs of the student, which runs with dropout."""
        return self.student({"params": params}, batch, keys=row_keys(self.seed, batch, DROPOUT_KEY))

    def make_batches(self, rows: PackedRows | Batch) -> tuple[Batch, dict[str, jax.Array]]:
        """Returns the micro-batches of this device, and the denominator of the mean of each loss and extra metric.

        Runs inside of `shard_map_rows`, because the divisors are sums over all devices.

        Args:
            rows: the rows of this device, with [accumulation, b, …] leaves.

        Returns:
            The micro-batches, with [accumulation, b, …] leaves, and by name the sum of each loss's weights over the
            global batch, or its fixed one.
        """

        def per_microbatch(rows):
            return self.make_batch(row_keys(self.seed, rows, MASKING_KEY), rows)

        batches = jax.vmap(per_microbatch)(rows)
        weight_sums = sum_over_devices(base.sum_weights({**self.losses, **self.extra_metrics}, batches))
        return batches, weight_sums | {name: jnp.float32(value) for name, value in self.fixed_weight_sums.items()}
