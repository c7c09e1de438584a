"""The training step and the evaluation step.

The functions named `make_…` return pure functions for `jax.jit`. These take rows as [accumulation, b, …] leaves:
`accumulation` micro-batches that run one after another, each with `b` rows over the devices of the mesh. They take
parameters that are sharded over the same devices.

A training step has two parts. What `make_gradients` returns computes the gradients of one global batch. What
`make_train_step` returns adds the loss scale, the check that everything is finite, and the optimizer update.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from distilbert_jax import log_keys
from distilbert_jax.devices.sharding import make_shardings, shard_map_rows, sum_over_devices
from distilbert_jax.losses import base
from distilbert_jax.train import loss_scaling
from distilbert_jax.train.objective import DROPOUT_KEY, MASKING_KEY, BatchMaker, Objective, Seed, row_keys
from distilbert_jax.types import Apply, Batch, Metrics, PackedRows, TrainState

GradientFunction = Callable[..., tuple[Any, Metrics]]
"""compute_gradients(params, teacher_params, rows, loss_scale=1.0) -> (gradients, metrics); see `make_gradients`."""


def init_train_state(
    params: Any, tx: optax.GradientTransformation, mesh: Mesh, *, dtype: str = "float32"
) -> TrainState:
    """Returns the state before the first step, sharded over the mesh.

    Args:
        params: {"student": parameters, "losses": {loss: parameters}}.
        tx: the optimizer.
        mesh: the devices.
        dtype: the type that the models compute in. Only a state for float16 has a loss scale.
    """

    def init(params):
        zero = jnp.zeros((), jnp.int32)
        loss_scale = loss_scaling.init_loss_scale() if dtype == "float16" else None
        return TrainState(
            step=zero, params=params, opt_state=tx.init(params), nonfinite_steps=zero, loss_scale=loss_scale
        )

    return jax.jit(init, out_shardings=make_shardings(jax.eval_shape(init, params), mesh))(params)


def make_train_step(
    compute_gradients: GradientFunction, tx: optax.GradientTransformation, mesh: Mesh
) -> Callable[[TrainState, Mapping[str, Any], PackedRows], tuple[TrainState, Metrics]]:
    """Returns the training step: train_step(state, teacher_params, rows) -> (state, metrics).

    If any metric of a step is NaN or infinite, its update is skipped and counted. The decision is made on the device,
    because the host reads the metrics only one step later: until then the state must stay valid.

    `metrics` holds those of `compute_gradients` and the norm of the gradient. It also counts the skipped updates:
    `loss_scale_overflows` are those whose only cause is a loss scale that was too large for float16, and
    `nonfinite_steps` are all others.

    Args:
        compute_gradients: what `make_gradients` returns.
        tx: the optimizer.
        mesh: the devices.
    """

    def train_step(state, teacher_params, rows):
        loss_scale = state.loss_scale
        if loss_scale is None:
            grads, metrics = compute_gradients(state.params, teacher_params, rows)
        else:
            scaled = compute_gradients(state.params, teacher_params, rows, loss_scale.value)
            grads, metrics = jax.tree.map(lambda x: x / loss_scale.value, scaled)
        metrics[log_keys.GRAD_NORM.name] = optax.tree.norm(grads)
        is_finite = jnp.isfinite(jnp.stack(list(metrics.values()))).all()
        state = _update_state(state, grads, tx, is_finite)
        # Without this constraint XLA may shard the new state in another way than the old one.
        state = jax.lax.with_sharding_constraint(state, make_shardings(state, mesh))
        metrics[log_keys.NONFINITE_STEPS.name] = state.nonfinite_steps
        if loss_scale is not None:
            metrics[log_keys.LOSS_SCALE.name] = loss_scale.value
            metrics[log_keys.LOSS_SCALE_OVERFLOWS.name] = state.loss_scale.num_overflows
        return state, metrics

    return train_step


def make_gradients(objective: Objective, mesh: Mesh) -> GradientFunction:
    """Returns compute_gradients(params, teacher_params, rows, loss_scale=1.0) -> (gradients, metrics).

    `gradients` has the tree and the sharding of `params`. `metrics` holds the objective, the mean of each loss and the
    extra metrics, all over the global batch. Both are multiplied by `loss_scale`.

    The result does not depend on the number of devices or micro-batches, except for rounding: the masks of the global
    batch are drawn first, so what each mean divides by is known before the first forward pass. Each device sums its
    gradients over its micro-batches, and only the sums are exchanged, once per step.
    """
    losses, extra_metrics = objective.losses, objective.extra_metrics
    metric_keys = {name: log_keys.LOSS_MEAN.name(loss=name) for name in losses} | {name: name for name in extra_metrics}

    def per_device(rows, sharded_params, sharded_teachers, loss_scale):
        batches, weight_sums = objective.make_batches(rows)
        params = sharded_params.gather()

        def per_microbatch(batch):
            # The teachers are gathered here and not before the loop, so that a device holds them only while they run.
            teacher_params, batch = sharded_teachers.gather_with(batch)
            teacher_outputs = objective.teacher_outputs(teacher_params, batch)

            def compute_loss(params):
                student_outputs = objective.student_outputs(params["student"], batch)
                return base.total_loss(
                    losses,
                    extra_metrics,
                    params["losses"],
                    student_outputs,
                    teacher_outputs,
                    weight_sums,
                    scale=loss_scale.parts,
                )

            (total, means), grads = jax.value_and_grad(compute_loss, has_aux=True)(params)
            return grads, {log_keys.LOSS.name: total} | {metric_keys[name]: mean for name, mean in means.items()}

        zeros = (
            jax.tree.map(jnp.zeros_like, params),
            dict.fromkeys((log_keys.LOSS.name, *metric_keys.values()), jnp.zeros(())),
        )
        grads, metrics = sum_over_microbatches(per_microbatch, batches, zeros)
        return sharded_params.reduce_scatter(grads), sum_over_devices(metrics)

    mapped = shard_map_rows(per_device, mesh, out=lambda student, *_: (student, P()))

    def compute_gradients(params, teacher_params, rows, loss_scale=1.0):
        return mapped(rows, params, teacher_params, jnp.float32(loss_scale))

    return compute_gradients


def _update_state(state: TrainState, grads: Any, tx: optax.GradientTransformation, is_finite: jax.Array) -> TrainState:
    """Returns the next state: with the optimizer update if `is_finite`, else with the update counted as skipped."""

    def update(params, opt_state):
        # The learning rate follows the step and not the updates: those of skipped steps are missing.
        updates, opt_state = optax.with_extra_args_support(tx).update(grads, opt_state, params, step=state.step)
        return optax.apply_updates(params, updates), opt_state

    def skip(params, opt_state):
        return params, opt_state

    # `cond` and not `where`: to select between two states value by value reads and writes more memory than the update
    # itself, 14 % of the time of a small step on a CPU.
    params, opt_state = jax.lax.cond(is_finite, update, skip, state.params, state.opt_state)
    is_nonfinite_step, loss_scale = ~is_finite, state.loss_scale
    if loss_scale is not None:
        is_nonfinite_step &= ~loss_scaling.has_overflowed(loss_scale, is_finite)
        loss_scale = loss_scaling.update_loss_scale(loss_scale, is_finite)
    return TrainState(
        step=state.step + 1,
        params=params,
        opt_state=opt_state,
        nonfinite_steps=state.nonfinite_steps + is_nonfinite_step,
        loss_scale=loss_scale,
    )


def make_eval_step(objective: Objective, mesh: Mesh) -> Callable[[Any, Mapping[str, Any], PackedRows], Metrics]:
    """Returns the evaluation step, without dropout: eval_step(student_params, teacher_params, rows) -> sums.

    `sums` holds the sum of each of the objective's `extra_metrics` over the masked tokens of `rows`, and the number of
    these tokens as `masked_tokens`.
    """
    extra_metrics = objective.extra_metrics

    def per_device(rows, sharded_params, sharded_teachers):
        student_params = sharded_params.gather()

        def per_microbatch(batch):
            batch = objective.make_batch(row_keys(objective.seed, batch, MASKING_KEY), batch)
            teacher_params, batch = sharded_teachers.gather_with(batch)
            student_outputs = objective.student({"params": student_params}, batch)
            teacher_outputs = objective.teacher_outputs(teacher_params, batch)
            # Divided by one, a mean is a sum.
            ones = dict.fromkeys(extra_metrics, jnp.ones(()))
            _, sums = base.total_loss({}, extra_metrics, {}, student_outputs, teacher_outputs, ones)
            return sums | {log_keys.MASKED_TOKENS.name: batch.label_weights.sum()}

        zeros = dict.fromkeys((*extra_metrics, log_keys.MASKED_TOKENS.name), jnp.zeros(()))
        return sum_over_devices(sum_over_microbatches(per_microbatch, rows, zeros))

    mapped = shard_map_rows(per_device, mesh)

    def eval_step(student_params, teacher_params, rows):
        return mapped(rows, student_params, teacher_params)

    return eval_step


def make_forward(
    apply: Apply, *, make_batch: BatchMaker, mesh: Mesh, seed: Seed, with_dropout: bool
) -> Callable[[Any, PackedRows], jax.Array]:
    """Returns forward(params, rows) -> the sum of the last hidden states, for timing one model's forward pass.

    Args:
        apply: the model.
        make_batch: masks the rows.
        mesh: the devices.
        seed: the seed of masks and dropout.
        with_dropout: whether the model runs as a student does, with dropout, or as a teacher.
    """

    def per_device(rows, sharded_params):
        def per_microbatch(batch):
            batch = make_batch(row_keys(seed, batch, MASKING_KEY), batch)
            params, batch = sharded_params.gather_with(batch)
            keys = row_keys(seed, batch, DROPOUT_KEY) if with_dropout else None
            return apply({"params": params}, batch, keys=keys).hidden_states[-1].sum(dtype=jnp.float32)

        return sum_over_devices(sum_over_microbatches(per_microbatch, rows, jnp.zeros(())))

    mapped = shard_map_rows(per_device, mesh)

    def forward(params, rows):
        return mapped(rows, params)

    return forward


def sum_over_microbatches(per_microbatch: Callable[[Any], Any], batches: PackedRows | Batch, zeros: Any) -> Any:
    """Returns the sum of per_microbatch(micro-batch) over the micro-batches, which run one at a time.

    Args:
        per_microbatch: returns a tree of arrays for one micro-batch of [b, …] leaves.
        batches: the micro-batches, with [accumulation, b, …] leaves.
        zeros: a tree of zeros like the result.
    """

    def add(total, batch):
        return jax.tree.map(jnp.add, total, per_microbatch(batch)), None

    return jax.lax.scan(add, zeros, batches)[0]
