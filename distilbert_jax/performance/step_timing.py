"""Where the time of an update goes: its parts, timed one by one beside the whole."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
from rich.table import Table

from distilbert_jax import log_keys
from distilbert_jax.config.experiment import Experiment
from distilbert_jax.data import masking
from distilbert_jax.devices.peak import peak
from distilbert_jax.io.console import console
from distilbert_jax.models import cost_model
from distilbert_jax.models.transformer import TransformerConfig
from distilbert_jax.performance.latency import latencies
from distilbert_jax.train.distill.inputs import load_inputs
from distilbert_jax.train.distill.setup import DistillSetup, setup_distillation


@dataclasses.dataclass(frozen=True)
class Part:
    """Of an update: its seconds, and the floating point operations it cannot do without."""

    name: str
    seconds: float
    flops: float


def breakdown(experiment: Experiment, *, repeats: int = 5) -> list[Part]:
    """The parts of an update of `experiment` on the devices at hand, and then the whole. Prints them as a table, with
    their share of the devices' peak.

    A forward pass is timed alone. The rest are differences: the losses are the value without the forward passes, the
    backward pass the gradient without the value, the optimizer the update without the gradient. So a part can come out
    below zero where all is small.
    """
    inputs = load_inputs(experiment)
    run = setup_distillation(experiment, inputs)
    programs = _programs(run)
    times = latencies(list(programs.values()), repeats=repeats)
    seconds = {name: ms / 1_000 for name, ms in zip(programs, times, strict=True)}
    flops = _flops(experiment, inputs.student.cfg, inputs.teacher.cfg if inputs.teacher else None)
    found = _parts(seconds, flops, whole=run.flops[log_keys.MFU.name])
    console.print(_table(found, peak(experiment.dtype), experiment.dtype))
    return found


def _programs(run: DistillSetup) -> dict[str, Callable[[], Any]]:
    """What is timed, by name: every call does one global batch."""
    state, rows = run.state, run.place(next(iter(run.batches.after(0))))
    values = jax.jit(lambda *arguments: run.gradients(*arguments)[1])  # no gradient is asked for, so none is made

    def forward(name: str) -> Any:
        return run.forward[name](state.params["student"] if name == "student" else run.teachers[name], rows)

    def update() -> Any:
        nonlocal state
        state, metrics = run.train_step(state, run.teachers, rows)
        return metrics

    return {
        **{name: functools.partial(forward, name) for name in (*run.teachers, "student") if name in run.forward},
        "value": lambda: values(state.params, run.teachers, rows),
        "gradient": lambda: run.gradients(state.params, run.teachers, rows),
        "update": update,
    }


def _flops(
    experiment: Experiment, student: TransformerConfig, teacher: TransformerConfig | None
) -> dict[str, dict[str, int]]:
    """Of each model's encoder and of its scores of words, forward."""
    rows, length = experiment.global_batch, experiment.corpus.row_length
    places = rows * masking.places(length, share=experiment.masking.share, everywhere=experiment.asks_everywhere)
    models = ({"teacher": teacher} if teacher and experiment.taught_by else {}) | {"student": student}
    return {
        "encoder": {name: cost_model.of_encoder(cfg, rows=rows, length=length) for name, cfg in models.items()},
        "words": {name: cost_model.of_masked_words(cfg, places=places) for name, cfg in models.items()},
    }


def _parts(seconds: dict[str, float], flops: dict[str, dict[str, int]], *, whole: float) -> list[Part]:
    """From the times of programs, each of which holds the ones before, to those of the parts."""
    forward = sum(seconds[name] for name in flops["encoder"])
    backward = cost_model.BACKWARD * (flops["encoder"]["student"] + flops["words"]["student"])
    return [
        *(Part(f"{name}, forward", seconds[name], flops["encoder"][name]) for name in flops["encoder"]),
        Part("losses", seconds["value"] - forward, sum(flops["words"].values())),
        Part("backward", seconds["gradient"] - seconds["value"], backward),
        Part("optimizer", seconds["update"] - seconds["gradient"], 0),
        Part("update", seconds["update"], whole),
    ]


def _table(found: list[Part], peak: float | None, dtype: str) -> Table:
    table = Table("part", "seconds", "share", "GFLOP", f"of the {dtype} peak")
    for part in found:
        share = part.seconds / found[-1].seconds
        of_peak = f"{part.flops / part.seconds / peak:.0%}" if peak and part.flops and part.seconds > 0 else ""
        table.add_row(part.name, f"{part.seconds:.3f}", f"{share:.0%}", f"{part.flops / 1e9:,.1f}", of_peak)
    return table
