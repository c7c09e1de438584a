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

from distilbert_jax.losses import base
from distilbert_jax.train.mesh import DATA
from distilbert_jax.train.step import DROPOUT, Apply, Ask, Seed, asked, row_keys
from distilbert_jax.types import Factored, Outputs, Rows

Size = Any
"""Floats, on the device or on the host: the largest magnitude of something, NaN where it has a NaN, inf where it has an
infinity.
"""


@flax.struct.dataclass
class Parts:
    """What every row of a global batch came to; leaves are [accumulation, b, …]."""

    teachers: dict[str, Size]  # as `student`
    student: Size  # of each hidden state, embeddings first, and of the features that the head scores: [… l+2]
    means: dict[str, Any]  # the row's share of the mean of each loss, and of what is only watched
    gradients: dict[str, Any]  # of each loss, as it is weighted in the objective: a size for each parameter


Dissect = Callable[[Any, Mapping[str, Any], Rows], Parts]


def make_dissect(
    student: Apply,
    teachers: Mapping[str, Apply],
    losses: Mapping[str, base.Loss],
    *,
    ask: Ask,
    mesh: Mesh,
    seed: Seed,
    watched: Mapping[str, base.ScoreLoss] = {},
) -> Dissect:
    """Returns dissect(params, teacher_params, rows) -> Parts. The arguments are those of `make_train_step`: the same
    masks, dropout and normalisers, whatever row stands beside another.
    """

    def of_rows(params, teacher_params, rows):  # on each device, of its rows
        batches, sums = asked(rows, {**losses, **watched}, ask=ask, seed=seed)

        def of_row(row):
            batch = jax.tree.map(lambda x: x[None], row)
            targets = {name: apply({"params": teacher_params[name]}, batch) for name, apply in teachers.items()}
            answer = lambda params: student({"params": params}, batch, keys=row_keys(seed, batch, DROPOUT))
            outputs, back = jax.vjp(answer, params["student"])
            _, means = base.total(losses, watched, params["losses"], outputs, targets, sums)

            def gradient(name):  # the backward pass of one loss alone
                alone = lambda outputs, own: base.total({name: losses[name]}, {}, own, outputs, targets, sums)[0]
                of_outputs, own = jax.grad(alone, (0, 1), allow_int=True)(outputs, params["losses"])
                return {"student": back(of_outputs)[0], "losses": own}

            return Parts(
                teachers={name: _hidden(x) for name, x in targets.items()},
                student=_hidden(outputs),
                means=means,
                gradients={name: jax.tree.map(size, gradient(name)) for name in losses},
            )

        return jax.lax.map(lambda micro: jax.lax.map(of_row, micro), batches)

    return jax.shard_map(
        of_rows, mesh=mesh, in_specs=(P(), P(), P(None, DATA)), out_specs=P(None, DATA), check_vma=False
    )


def size(x: Array) -> Size:
    return jnp.max(jnp.abs(x)).astype(jnp.float32)


def _hidden(outputs: Outputs) -> Size:
    assert outputs.scores is not None
    head = outputs.scores.features if isinstance(outputs.scores, Factored) else outputs.scores
    return jnp.stack([size(x) for x in (*outputs.hidden, head)])
