"""One update taken apart, row by row: how large everything on its way becomes, and where it stops being finite. Pure,
and of the same parts as the step.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from distilbert_jax.devices.mesh import ROW_AXES
from distilbert_jax.devices.sharding import shard_map_rows
from distilbert_jax.losses import base
from distilbert_jax.train.objective import Objective
from distilbert_jax.types import FactoredLogits, ModelOutputs, PackedRows

Size = Any
"""Floats, on the device or on the host: the largest magnitude of something, NaN where it has a NaN, inf where it has an
infinity.
"""


@flax.struct.dataclass
class StepInspection:
    """What every row of a global batch came to; leaves are [accumulation, b, …]."""

    teachers: dict[str, Size]  # as `student`
    student: Size  # of each hidden state, embeddings first, and of the features that the head scores: [… l+2]
    means: dict[str, Any]  # the row's share of the mean of each loss, and of what is only watched
    gradients: dict[str, Any]  # of each loss, as it is weighted in the objective: a size for each parameter


InspectStep = Callable[[Any, Mapping[str, Any], PackedRows], StepInspection]


def make_inspect_step(objective: Objective, mesh: Mesh) -> InspectStep:
    """Returns dissect(params, teacher_params, rows) -> Parts, of what `make_gradients` makes gradients of: the same
    masks, dropout and normalisers, whatever row stands beside another.
    """
    losses = objective.losses

    def of_device(rows, params, teachers):
        batches, sums = objective.make_batches(rows)
        params = params.whole()

        def of_row(row):
            known, batch = teachers.whole_beside(jax.tree.map(lambda x: x[None], row))
            targets = objective.teacher_outputs(known, batch)
            outputs, back = jax.vjp(lambda student: objective.student_outputs(student, batch), params["student"])
            _, means = base.total_loss(losses, objective.extra_metrics, params["losses"], outputs, targets, sums)

            def gradient(name):  # the backward pass of one loss alone
                alone = lambda outputs, own: base.total_loss({name: losses[name]}, {}, own, outputs, targets, sums)[0]
                of_outputs, own = jax.grad(alone, (0, 1), allow_int=True)(outputs, params["losses"])
                return {"student": back(of_outputs)[0], "losses": own}

            return StepInspection(
                teachers={name: _hidden(x) for name, x in targets.items()},
                student=_hidden(outputs),
                means=means,
                gradients={name: jax.tree.map(max_magnitude, gradient(name)) for name in losses},
            )

        return jax.lax.map(lambda micro: jax.lax.map(of_row, micro), batches)

    mapped = shard_map_rows(of_device, mesh, out=lambda *_: P(None, ROW_AXES))
    return lambda params, teacher_params, rows: mapped(rows, params, teacher_params)


def max_magnitude(x: Array) -> Size:
    return jnp.max(jnp.abs(x)).astype(jnp.float32)


def _hidden(outputs: ModelOutputs) -> Size:
    assert outputs.logits is not None
    head = outputs.logits.features if isinstance(outputs.logits, FactoredLogits) else outputs.logits
    return jnp.stack([max_magnitude(x) for x in (*outputs.hidden_states, head)])
