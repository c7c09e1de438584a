"""Tests the optimizer against AdamW in float64, also where steps are skipped: the learning rate follows the step."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from distilbert_jax.devices.mesh import make_mesh
from distilbert_jax.optimizer import AdamW, make_decay_mask
from distilbert_jax.runtime import metrics_log
from distilbert_jax.runtime.checkpoint import Checkpoints
from distilbert_jax.runtime.metrics_log import MetricsLog
from distilbert_jax.runtime.step_monitor import StepMonitor, StepWork
from distilbert_jax.train.step import init_train_state, make_train_step

STEPS, SKIPPED = 10, (1, 4, 5)
SETTINGS = AdamW(learning_rate=0.1, warmup_ratio=0.3, weight_decay=0.02, max_grad_norm=2.0)
START = {"dense": {"kernel": np.array([[0.5, -1.0], [2.0, 0.25]]), "bias": np.array([1.0, -0.5])}}
TARGETS = np.random.default_rng(0).normal(size=(STEPS, 2, 2))


def compute_gradients(params, teacher_params, target):
    """Returns the gradient of a small loss, ½ Σ (kernel + bias − target)², which is NaN if the target is."""

    def loss(params):
        return jnp.sum(jnp.square(params["dense"]["kernel"] + params["dense"]["bias"][None] - target)) / 2

    value, grads = jax.value_and_grad(loss)(params)
    return grads, {"loss": value}


def make_step(tx, gradients=compute_gradients):
    """Returns the training step with the optimizer `tx`, and the state before the first step."""
    mesh = make_mesh(devices=jax.devices()[:1])
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), START)
    return jax.jit(make_train_step(gradients, tx, mesh)), init_train_state(params, tx, mesh)


def run(tx, skipped):
    """Returns the parameters after each step. The steps with an index in `skipped` are not finite."""
    step, state = make_step(tx)
    params = []
    for index in range(STEPS):
        target = np.full((2, 2), np.nan) if index in skipped else TARGETS[index]
        state, _ = step(state, {}, jnp.asarray(target, jnp.float32))
        params.append(jax.device_get(state.params["dense"]))
    return params


def learning_rate(index):
    """Returns the learning rate of a step in float64: up in three of ten steps, then down to 0."""
    return SETTINGS.learning_rate * ((index + 1) / 3 if index < 3 else 1 - (index - 3) / 7)


def reference(skipped):
    """Returns the parameters after each step in float64, as Loshchilov and Hutter (2019) write AdamW."""
    params = {name: x.copy() for name, x in START["dense"].items()}
    moments = {name: (np.zeros_like(x), np.zeros_like(x)) for name, x in params.items()}
    updates, history = 0, []
    for index in range(STEPS):
        if index not in skipped:
            updates += 1
            residual = params["kernel"] + params["bias"] - TARGETS[index]
            grads = {"kernel": residual, "bias": residual.sum(0)}
            norm = np.sqrt(sum((grad**2).sum() for grad in grads.values()))
            for name, grad in grads.items():
                grad = grad * min(1.0, SETTINGS.max_grad_norm / norm)
                first, second = moments[name]
                first = SETTINGS.b1 * first + (1 - SETTINGS.b1) * grad
                second = SETTINGS.b2 * second + (1 - SETTINGS.b2) * grad**2
                moments[name] = first, second
                direction = first / (1 - SETTINGS.b1**updates)
                direction /= np.sqrt(second / (1 - SETTINGS.b2**updates)) + SETTINGS.eps
                if name == "kernel":
                    direction += SETTINGS.weight_decay * params[name]
                params[name] = params[name] - learning_rate(index) * direction
        history.append({name: x.copy() for name, x in params.items()})
    return history


def largest_difference(actual, expected):
    """Returns the largest difference between two lists of parameters."""
    return max(np.abs(a[name] - b[name]).max() for a, b in zip(actual, expected, strict=True) for name in b)


def adamw_with_its_own_count():
    """Returns AdamW whose schedule counts the updates, as optax's own does: it falls behind at a skipped step."""
    return optax.chain(
        optax.clip_by_global_norm(SETTINGS.max_grad_norm),
        optax.adamw(
            SETTINGS.make_schedule(STEPS),
            b1=SETTINGS.b1,
            b2=SETTINGS.b2,
            eps=SETTINGS.eps,
            weight_decay=SETTINGS.weight_decay,
            mask=make_decay_mask,
        ),
    )


@pytest.mark.parametrize("skipped", [(), SKIPPED], ids=["no step skipped", "three steps skipped"])
def test_equals_adamw_in_float64(skipped):
    assert largest_difference(run(SETTINGS.make_transformation(STEPS), skipped), reference(skipped)) < 2e-6


def test_a_schedule_that_counts_updates_would_be_noticed():
    assert largest_difference(run(adamw_with_its_own_count(), SKIPPED), reference(SKIPPED)) > 1e-3


def test_without_skipped_steps_it_is_optax_adamw_to_the_bit():
    ours, theirs = run(SETTINGS.make_transformation(STEPS), ()), run(adamw_with_its_own_count(), ())
    assert largest_difference(ours, theirs) == 0


@pytest.mark.parametrize("follows_the_step", [True, False], ids=["as it is", "with the mistake"])
def test_the_log_states_the_learning_rate_that_was_used(tmp_path, follows_the_step):
    """With a constant gradient and no decay, Adam changes each parameter by the learning rate of the step."""
    settings = AdamW(learning_rate=0.1, warmup_ratio=0.3, max_grad_norm=1e9, eps=1e-30)
    schedule = settings.make_schedule(STEPS)
    tx = settings.make_transformation(STEPS) if follows_the_step else optax.adamw(schedule, b2=0.98, eps=1e-30)

    def constant_gradients(params, teacher_params, scale):
        return jax.tree.map(lambda x: jnp.ones_like(x) * scale, params), {"loss": scale}

    step, state = make_step(tx, constant_gradients)
    used = []
    with (
        MetricsLog(tmp_path, start=0) as log,
        contextlib.closing(Checkpoints(tmp_path / "checkpoints", keep=1)) as checkpoints,
    ):
        monitor = StepMonitor(log, checkpoints, losses={}, schedule=schedule, log_every=1, max_nonfinite_steps=9)
        for index in range(STEPS):
            before = state.params["dense"]["bias"][0]
            state, metrics = step(state, {}, jnp.float32(jnp.nan if index in SKIPPED else 1.0))
            monitor.after(index + 1, metrics, 0.0, work=StepWork(1, 1, {}))
            used.append(float(before - state.params["dense"]["bias"][0]))
        monitor.read_pending()
    logged = [entry["learning_rate"] for entry in metrics_log.read_log(tmp_path, "train")]
    applied = [index for index in range(STEPS) if index not in SKIPPED]
    difference = np.abs(np.array(logged)[applied] - np.array(used)[applied]).max()
    assert (difference < 1e-5) == follows_the_step
    np.testing.assert_allclose(logged, [learning_rate(index) for index in range(STEPS)], rtol=1e-5)


def test_a_resumed_run_with_skipped_steps_is_the_same_to_the_bit(tmp_path):
    """A checkpoint is taken right after a skipped step and right before one."""
    tx = SETTINGS.make_transformation(STEPS)
    uninterrupted = run(tx, SKIPPED)
    step, state = make_step(tx)
    with contextlib.closing(Checkpoints(tmp_path, keep=1)) as checkpoints:
        for index in range(STEPS):
            if index in (2, 4, 6):
                checkpoints.save(state, step=index)
                checkpoints.wait()
                state, restored = checkpoints.restore(make_step(tx)[1])
                assert restored == index
            target = np.full((2, 2), np.nan) if index in SKIPPED else TARGETS[index]
            state, _ = step(state, {}, jnp.asarray(target, jnp.float32))
            for name, expected in uninterrupted[index].items():
                np.testing.assert_array_equal(state.params["dense"][name], expected)
