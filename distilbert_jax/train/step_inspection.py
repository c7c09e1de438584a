"""A training step in its parts: for each row, the magnitudes of its hidden states, losses and gradients.

`replay` uses it to find where a step stopped being finite. It is built from the same functions as the training step and
is pure.
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

Magnitude = Any
"""The largest absolute value of something as float32, on the device or on the host.

It is NaN if there is a NaN, and infinite if there is an infinity and no NaN.
"""


@flax.struct.dataclass
class StepInspection:
    """What every row of a global batch contributes to a step. All leaves are [accumulation, b, …].

    Attributes:
        teachers: the hidden states of each teacher, like `student`.
        student: magnitudes [accumulation, b, l + 2] of each hidden state of the student, the embeddings first, and of
            the features that its head scores.
        means: the row's part of the mean of each loss and of each extra metric, by name.
        gradients: for each loss, the magnitude of its gradient for each parameter.
    """

    teachers: dict[str, Magnitude]
    student: Magnitude
    means: dict[str, Any]
    gradients: dict[str, Any]


InspectStep = Callable[[Any, Mapping[str, Any], PackedRows], StepInspection]


def make_inspect_step(objective: Objective, mesh: Mesh) -> InspectStep:
    """Returns inspect_step(params, teacher_params, rows) -> StepInspection.

    Masks, dropout and normalisers are those of the training step, and each row is computed by itself.

    Args:
        objective: the objective of the training step.
        mesh: the devices.
    """
    losses = objective.losses

    def per_device(rows, sharded_params, sharded_teachers):
        batches, weight_sums = objective.make_batches(rows)
        params = sharded_params.gather()

        def per_row(row):
            # The row is a batch of one.
            teacher_params, batch = sharded_teachers.gather_with(jax.tree.map(lambda x: x[None], row))
            teacher_outputs = objective.teacher_outputs(teacher_params, batch)
            student_outputs, backward = jax.vjp(
                lambda params: objective.student_outputs(params, batch), params["student"]
            )
            _, means = base.total_loss(
                losses, objective.extra_metrics, params["losses"], student_outputs, teacher_outputs, weight_sums
            )

            def compute_gradient(name):
                """Returns the gradient of one loss alone: first with respect to the outputs, then through the model."""

                def compute_loss(student_outputs, loss_params):
                    total, _ = base.total_loss(
                        {name: losses[name]}, {}, loss_params, student_outputs, teacher_outputs, weight_sums
                    )
                    return total

                output_grads, loss_grads = jax.grad(compute_loss, (0, 1), allow_int=True)(
                    student_outputs, params["losses"]
                )
                return {"student": backward(output_grads)[0], "losses": loss_grads}

            return StepInspection(
                teachers={name: _hidden_magnitudes(outputs) for name, outputs in teacher_outputs.items()},
                student=_hidden_magnitudes(student_outputs),
                means=means,
                gradients={name: jax.tree.map(max_magnitude, compute_gradient(name)) for name in losses},
            )

        # `map` and not `vmap`: rows run one after another, in the memory of one.
        return jax.lax.map(lambda microbatch: jax.lax.map(per_row, microbatch), batches)

    mapped = shard_map_rows(per_device, mesh, out=lambda *_: P(None, ROW_AXES))

    def inspect_step(params, teacher_params, rows):
        return mapped(rows, params, teacher_params)

    return inspect_step


def max_magnitude(x: Array) -> Magnitude:
    """Returns the largest absolute value of an array."""
    return jnp.max(jnp.abs(x)).astype(jnp.float32)


def _hidden_magnitudes(outputs: ModelOutputs) -> Magnitude:
    """Returns [l + 2] magnitudes: of the hidden states, and of the head's features, or of its logits without them."""
    assert outputs.logits is not None
    head = outputs.logits.features if isinstance(outputs.logits, FactoredLogits) else outputs.logits
    return jnp.stack([max_magnitude(x) for x in (*outputs.hidden_states, head)])
