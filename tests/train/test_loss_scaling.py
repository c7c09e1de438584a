"""float16: gradients that would vanish do not, an overflow halves the scale and is no failure, and what is wrong at
scale 1 is one.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distilbert_jax.config import experiment_file
from distilbert_jax.hub.smoke import make_smoke_experiment
from distilbert_jax.losses.hard_targets import HardTargets
from distilbert_jax.runtime import metrics_log
from distilbert_jax.train import loss_scaling
from distilbert_jax.train.distill import loop
from distilbert_jax.train.loss_scaling import (
    DOUBLING_INTERVAL_STEPS,
    INITIAL_SCALE,
    MAX_SCALE,
    init_loss_scale,
    update_loss_scale,
)
from tests.conftest import ROOT

FINE, OVER = jnp.asarray(True), jnp.asarray(False)


def test_it_falls_by_half_and_rises_after_a_while():
    scale = update_loss_scale(init_loss_scale(), OVER)
    assert (scale.value, scale.num_overflows, scale.steps_since_change) == (INITIAL_SCALE / 2, 1, 0)
    rises = jax.jit(
        lambda scale: jax.lax.fori_loop(0, DOUBLING_INTERVAL_STEPS - 1, lambda _, s: update_loss_scale(s, FINE), scale)
    )
    scale = rises(scale)
    assert scale.value == INITIAL_SCALE / 2
    scale = update_loss_scale(scale, FINE)
    assert (scale.value, scale.steps_since_change) == (INITIAL_SCALE, 0)


def test_it_has_ends():
    low = dataclasses.replace(init_loss_scale(), value=jnp.asarray(1.0))
    assert update_loss_scale(low, OVER).value == 1
    assert update_loss_scale(low, OVER).num_overflows == 0, "at 1 it is no overflow of scaling"
    high = dataclasses.replace(
        init_loss_scale(), value=jnp.asarray(MAX_SCALE), steps_since_change=jnp.asarray(DOUBLING_INTERVAL_STEPS)
    )
    assert update_loss_scale(high, FINE).value == MAX_SCALE


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    quickstart = experiment_file.load_experiment(ROOT / "experiments" / "quickstart.py")
    tiny = experiment_file.apply_overrides(quickstart, ["student.layers=(0,1)"])
    tiny = make_smoke_experiment(tiny, tmp_path_factory.mktemp("tiny"))
    return dataclasses.replace(tiny, dtype="float16")


def built(experiment, monkeypatch):
    """The run of the experiment, before its first step."""
    runs = []

    def stop(*inputs):
        runs.append(build(*inputs))
        raise ValueError("enough")

    build = loop.setup_distillation
    with monkeypatch.context() as patched:
        patched.setattr(loop, "setup_distillation", stop)
        with pytest.raises(ValueError, match="enough"):
            loop.distill(experiment)
    return runs[0]


def gradients(run, scale):
    rows = run.put_batch(next(iter(run.batches.iter_from(0))))
    grads, _ = run.compute_gradients(run.state.params, run.teachers, rows, scale)
    return np.concatenate([np.asarray(x / scale, np.float64).ravel() for x in jax.tree.leaves(grads["student"])])


def test_small_gradients_exist_with_a_scale_and_vanish_without(experiment, monkeypatch):
    """Losses a thousandth as large: as in a large batch, whose means divide by many words."""
    losses = {name: dataclasses.replace(loss, weight=1e-3 * loss.weight) for name, loss in experiment.losses.items()}
    small = dataclasses.replace(experiment, losses=losses)
    half = built(small, monkeypatch)
    wanted = gradients(built(dataclasses.replace(small, dtype="float32"), monkeypatch), 1.0)

    def error(scale):
        return np.linalg.norm(gradients(half, scale) - wanted) / np.linalg.norm(wanted)

    assert error(INITIAL_SCALE) < 0.02
    assert error(1.0) > 2 * error(INITIAL_SCALE)


def test_a_run_skips_what_overflows_and_goes_on(experiment, tmp_path, monkeypatch):
    """From a scale far too large."""
    monkeypatch.setattr(loss_scaling, "INITIAL_SCALE", 2.0**27)
    folder = loop.distill(dataclasses.replace(experiment, workdir=str(tmp_path), steps=12, eval_every=12))
    entries = metrics_log.read_log(folder, "train")
    skipped = [not np.isfinite(entry["grad_norm"]) for entry in entries]
    assert skipped[0]
    assert not all(skipped)
    assert [entry["loss_scale_overflows"] for entry in entries] == np.cumsum(skipped).tolist()
    assert [entry["loss_scale"] for entry in entries] == (2.0 ** (27 - np.cumsum([0, *skipped[:-1]]))).tolist()
    assert entries[-1]["nonfinite_steps"] == 0
    schedule = experiment.optimizer.make_schedule(12)
    assert [entry["learning_rate"] for entry in entries] == [float(schedule(entry["step"] - 1)) for entry in entries]


class NotFinite(HardTargets):
    """A loss that is never finite."""

    def values_from_logits(self, student_logits, teacher_logits, labels):
        return super().values_from_logits(student_logits, teacher_logits, labels) * jnp.nan


def test_what_is_not_finite_at_scale_1_stops_the_run(experiment, tmp_path, monkeypatch):
    monkeypatch.setattr(loss_scaling, "INITIAL_SCALE", 1.0)
    losses = experiment.losses | {"hard": NotFinite()}
    with pytest.raises(ValueError, match="step 1: .*grad_norm, loss.* became nan. The update was skipped"):
        loop.distill(dataclasses.replace(experiment, losses=losses, workdir=str(tmp_path)))


def test_other_types_have_no_scale(experiment, monkeypatch):
    assert built(dataclasses.replace(experiment, dtype="bfloat16"), monkeypatch).state.loss_scale is None
