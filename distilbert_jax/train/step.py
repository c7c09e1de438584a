"""One pure update, and the measuring of held-out rows."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from distilbert_jax import log_keys
from distilbert_jax.devices.sharding import on_devices, over_devices, shardings
from distilbert_jax.losses import base
from distilbert_jax.train import loss_scaling
from distilbert_jax.train.objective import DROPOUT, MASKS, Ask, Objective, Seed, row_keys
from distilbert_jax.types import Apply, Batch, Metrics, Rows, TrainState

Gradients = Callable[..., tuple[Any, Metrics]]


def start(params: Any, tx: optax.GradientTransformation, mesh: Mesh, *, dtype: str = "float32") -> TrainState:
    """The state before the first update of a computation in this type, cut over the mesh."""

    def fresh(params):
        zero, scale = jnp.zeros((), jnp.int32), loss_scaling.first() if dtype == "float16" else None
        return TrainState(step=zero, params=params, opt_state=tx.init(params), nonfinite_steps=zero, scale=scale)

    return jax.jit(fresh, out_shardings=shardings(jax.eval_shape(fresh, params), mesh))(params)


def make_train_step(
    gradients: Gradients, tx: optax.GradientTransformation, mesh: Mesh
) -> Callable[[TrainState, Mapping[str, Any], Rows], tuple[TrainState, Metrics]]:
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
    losses, watched = objective.losses, objective.watched
    named = {name: log_keys.LOSS_MEAN.name(loss=name) for name in losses} | {name: name for name in watched}

    def of_device(rows, student, teachers, scale):
        batches, sums = objective.asked(rows)
        params = student.whole()

        def of_micro(batch):
            known, batch = teachers.whole_beside(batch)
            targets = objective.targets(known, batch)

            def value(params):
                outputs = objective.answers(params["student"], batch)
                return base.total(losses, watched, params["losses"], outputs, targets, sums, scale=scale.parts)

            (total, means), grads = jax.value_and_grad(value, has_aux=True)(params)
            return grads, {log_keys.LOSS.name: total} | {named[name]: mean for name, mean in means.items()}

        zeros = (
            jax.tree.map(jnp.zeros_like, params),
            dict.fromkeys((log_keys.LOSS.name, *named.values()), jnp.zeros(())),
        )
        grads, metrics = sum_over_first(of_micro, batches, zeros)
        return student.summed(grads), over_devices(metrics)

    mapped = on_devices(of_device, mesh, out=lambda student, *_: (student, P()))
    return lambda params, teacher_params, rows, scale=1.0: mapped(rows, params, teacher_params, jnp.float32(scale))


def _updated(state: TrainState, grads: Any, tx: optax.GradientTransformation, good: jax.Array) -> TrainState:
    """The next state: with the update where it is `good`, else without it, counted. Choosing between two states value
    by value would read and write more memory than the update itself: 14 % of a small step on a CPU.
    """

    def update(params, opt_state):
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    params, opt_state = jax.lax.cond(good, update, lambda *old: old, state.params, state.opt_state)
    bad, scale = ~good, state.scale
    if scale is not None:
        bad, scale = bad & ~loss_scaling.overflowed(scale, good), loss_scaling.after(scale, good)
    return TrainState(
        step=state.step + 1,
        params=params,
        opt_state=opt_state,
        nonfinite_steps=state.nonfinite_steps + bad,
        scale=scale,
    )


def make_eval_step(objective: Objective, mesh: Mesh) -> Callable[[Any, Mapping[str, Any], Rows], Metrics]:
    """Returns step(student_params, teacher_params, rows) -> the sum of each metric that is watched over the masked
    tokens, and their number, `masked_tokens`; without dropout.
    """
    watched = objective.watched

    def of_device(rows, params, teacher_params):
        params = params.whole()

        def of_micro(batch):
            known, batch = teacher_params.whole_beside(objective.ask(row_keys(objective.seed, batch, MASKS), batch))
            outputs, targets = objective.student({"params": params}, batch), objective.targets(known, batch)
            _, means = base.total({}, watched, {}, outputs, targets, dict.fromkeys(watched, jnp.ones(())))
            return means | {log_keys.MASKED_TOKENS.name: batch.weights.sum()}

        zeros = dict.fromkeys((*watched, log_keys.MASKED_TOKENS.name), jnp.zeros(()))
        return over_devices(sum_over_first(of_micro, rows, zeros))

    mapped = on_devices(of_device, mesh)
    return lambda params, teacher_params, rows: mapped(rows, params, teacher_params)


def make_forward(apply: Apply, *, ask: Ask, mesh: Mesh, seed: Seed, learns: bool) -> Callable[[Any, Rows], jax.Array]:
    """Returns forward(params, rows) -> Σ of the last hidden states, with dropout for a model that learns: what a
    model's own pass of a train step costs.
    """

    def of_device(rows, params):
        def of_micro(batch):
            known, batch = params.whole_beside(ask(row_keys(seed, batch, MASKS), batch))
            keys = row_keys(seed, batch, DROPOUT) if learns else None
            return apply({"params": known}, batch, keys=keys).hidden[-1].sum(dtype=jnp.float32)

        return over_devices(sum_over_first(of_micro, rows, jnp.zeros(())))

    mapped = on_devices(of_device, mesh)
    return lambda params, rows: mapped(rows, params)


def sum_over_first(f: Callable[[Any], Any], batches: Rows | Batch, zeros: Any) -> Any:
    """Σ f over the micro-batches, one at a time, from `zeros` on."""
    add = lambda total, batch: (jax.tree.map(jnp.add, total, f(batch)), None)
    return jax.lax.scan(add, zeros, batches)[0]
