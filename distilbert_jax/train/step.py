"""One pure update, and the measuring of held-out rows."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from distilbert_jax import log_keys
from distilbert_jax.devices.sharding import shard_map_rows, shardings, sum_over_devices
from distilbert_jax.losses import base
from distilbert_jax.train import loss_scaling
from distilbert_jax.train.objective import DROPOUT_KEY, MASKING_KEY, BatchMaker, Objective, Seed, row_keys
from distilbert_jax.types import Apply, Batch, Metrics, PackedRows, TrainState

Gradients = Callable[..., tuple[Any, Metrics]]


def init_train_state(
    params: Any, tx: optax.GradientTransformation, mesh: Mesh, *, dtype: str = "float32"
) -> TrainState:
    """The state before the first update of a computation in this type, cut over the mesh."""

    def fresh(params):
        zero, scale = jnp.zeros((), jnp.int32), loss_scaling.init_loss_scale() if dtype == "float16" else None
        return TrainState(step=zero, params=params, opt_state=tx.init(params), nonfinite_steps=zero, loss_scale=scale)

    return jax.jit(fresh, out_shardings=shardings(jax.eval_shape(fresh, params), mesh))(params)


def make_train_step(
    gradients: Gradients, tx: optax.GradientTransformation, mesh: Mesh
) -> Callable[[TrainState, Mapping[str, Any], PackedRows], tuple[TrainState, Metrics]]:
    """Returns step(state, teacher_params, rows) -> (state, metrics), of what `make_gradients` gives. An update is left
    out and counted where any of its metrics is not finite: the state stays good although the host hears of it later.
    The metric `nonfinite_steps` counts these updates; those that only the loss scale of float16 made overflow are
    counted apart, as `loss_scale_overflows`.
    """

    def step(state, teacher_params, rows):
        scale = state.scale
        if scale is None:
            grads, metrics = gradients(state.params, teacher_params, rows)
        else:
            both = gradients(state.params, teacher_params, rows, scale.value)
            grads, metrics = jax.tree.map(lambda x: x / scale.value, both)
        metrics[log_keys.GRAD_NORM.name] = optax.tree.norm(grads)
        good = jnp.isfinite(jnp.stack(list(metrics.values()))).all()
        state = _updated(state, grads, tx, good)
        state = jax.lax.with_sharding_constraint(state, shardings(state, mesh))  # else XLA may cut it otherwise
        metrics[log_keys.NONFINITE_STEPS.name] = state.nonfinite_steps
        if scale is not None:
            metrics[log_keys.LOSS_SCALE.name] = scale.value
            metrics[log_keys.LOSS_SCALE_OVERFLOWS.name] = state.scale.skipped
        return state, metrics

    return step


def make_gradients(objective: Objective, mesh: Mesh) -> Gradients:
    """Returns gradients(params, teacher_params, rows, scale=1.0) -> (gradients, metrics), both times the scale; leaves
    of `rows` are [accumulation, b, …], b over the devices.

    The masks of the whole global batch come first, so every normaliser is known before the first forward pass; each
    device then sums its own gradients over its micro-batches, and they are added up over devices once.
    """
    losses, watched = objective.losses, objective.extra_metrics
    named = {name: log_keys.LOSS_MEAN.name(loss=name) for name in losses} | {name: name for name in watched}

    def of_device(rows, student, teachers, scale):
        batches, sums = objective.make_batches(rows)
        params = student.whole()

        def of_micro(batch):
            known, batch = teachers.whole_beside(batch)
            targets = objective.teacher_outputs(known, batch)

            def value(params):
                outputs = objective.student_outputs(params["student"], batch)
                return base.total_loss(losses, watched, params["losses"], outputs, targets, sums, scale=scale.parts)

            (total, means), grads = jax.value_and_grad(value, has_aux=True)(params)
            return grads, {log_keys.LOSS.name: total} | {named[name]: mean for name, mean in means.items()}

        zeros = (
            jax.tree.map(jnp.zeros_like, params),
            dict.fromkeys((log_keys.LOSS.name, *named.values()), jnp.zeros(())),
        )
        grads, metrics = sum_over_microbatches(of_micro, batches, zeros)
        return student.summed(grads), sum_over_devices(metrics)

    mapped = shard_map_rows(of_device, mesh, out=lambda student, *_: (student, P()))
    return lambda params, teacher_params, rows, scale=1.0: mapped(rows, params, teacher_params, jnp.float32(scale))


def _updated(state: TrainState, grads: Any, tx: optax.GradientTransformation, good: jax.Array) -> TrainState:
    """The next state: with the update where it is `good`, else without it, counted. Choosing between two states value
    by value would read and write more memory than the update itself: 14 % of a small step on a CPU.
    """

    def update(params, opt_state):
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    params, opt_state = jax.lax.cond(good, update, lambda *old: old, state.params, state.opt_state)
    bad, scale = ~good, state.loss_scale
    if scale is not None:
        bad, scale = bad & ~loss_scaling.has_overflowed(scale, good), loss_scaling.update_loss_scale(scale, good)
    return TrainState(
        step=state.step + 1,
        params=params,
        opt_state=opt_state,
        nonfinite_steps=state.nonfinite_steps + bad,
        loss_scale=scale,
    )


def make_eval_step(objective: Objective, mesh: Mesh) -> Callable[[Any, Mapping[str, Any], PackedRows], Metrics]:
    """Returns step(student_params, teacher_params, rows) -> the sum of each metric that is watched over the masked
    tokens, and their number, `masked_tokens`; without dropout.
    """
    watched = objective.extra_metrics

    def of_device(rows, params, teacher_params):
        params = params.whole()

        def of_micro(batch):
            known, batch = teacher_params.whole_beside(
                objective.make_batch(row_keys(objective.seed, batch, MASKING_KEY), batch)
            )
            outputs, targets = objective.student({"params": params}, batch), objective.teacher_outputs(known, batch)
            _, means = base.total_loss({}, watched, {}, outputs, targets, dict.fromkeys(watched, jnp.ones(())))
            return means | {log_keys.MASKED_TOKENS.name: batch.weights.sum()}

        zeros = dict.fromkeys((*watched, log_keys.MASKED_TOKENS.name), jnp.zeros(()))
        return sum_over_devices(sum_over_microbatches(of_micro, rows, zeros))

    mapped = shard_map_rows(of_device, mesh)
    return lambda params, teacher_params, rows: mapped(rows, params, teacher_params)


def make_forward(
    apply: Apply, *, make_batch: BatchMaker, mesh: Mesh, seed: Seed, with_dropout: bool
) -> Callable[[Any, PackedRows], jax.Array]:
    """Returns forward(params, rows) -> Σ of the last hidden states, with dropout for a model that learns: what a
    model's own pass of a train step costs.
    """

    def of_device(rows, params):
        def of_micro(batch):
            known, batch = params.whole_beside(make_batch(row_keys(seed, batch, MASKING_KEY), batch))
            keys = row_keys(seed, batch, DROPOUT_KEY) if with_dropout else None
            return apply({"params": known}, batch, keys=keys).hidden_states[-1].sum(dtype=jnp.float32)

        return sum_over_devices(sum_over_microbatches(of_micro, rows, jnp.zeros(())))

    mapped = shard_map_rows(of_device, mesh)
    return lambda params, rows: mapped(rows, params)


def sum_over_microbatches(f: Callable[[Any], Any], batches: PackedRows | Batch, zeros: Any) -> Any:
    """Σ f over the micro-batches, one at a time, from `zeros` on."""
    add = lambda total, batch: (jax.tree.map(jnp.add, total, f(batch)), None)
    return jax.lax.scan(add, zeros, batches)[0]
