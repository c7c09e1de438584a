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
from distilbert_jax.devices.peak import peak_flops
from distilbert_jax.io.console import console
from distilbert_jax.models import cost_model
from distilbert_jax.models.transformer import TransformerConfig
from distilbert_jax.performance.latency import measure_latencies
from distilbert_jax.train.distill.inputs import load_inputs
from distilbert_jax.train.distill.setup import DistillSetup, setup_distillation


@dataclasses.dataclass(frozen=True)
class PartTiming:
    """Of an update: its seconds, and the floating point operations it cannot do without."""

    name: str
    seconds: float
    flops: float


def time_step_parts(experiment: Experiment, *, repeats: int = 5) -> list[PartTiming]:
    """The parts of an update of `experiment` on the devices at hand, and then the whole. Prints them as a table, with
    their share of the devices' peak.

    A forward pass is timed alone. The rest are differences: the losses are the value without the forward passes, the
    backward pass the gradient without the value, the optimizer the update without the gradient. So a part can come out
    below zero where all is small.
    """
    inputs = load_inputs(experiment)
    run = setup_distillation(experiment, inputs)
    programs = _programs(run)
    times = measure_latencies(list(programs.values()), repeats=repeats)
    seconds = {name: ms / 1_000 for name, ms in zip(programs, times, strict=True)}
    flops = _flops(experiment, inputs.student.config, inputs.teacher.config if inputs.teacher else None)
    found = _parts(seconds, flops, whole=run.flops[log_keys.MFU.name])
    console.print(_table(found, peak_flops(experiment.dtype), experiment.dtype))
    return found


def _programs(run: DistillSetup) -> dict[str, Callable[[], Any]]:
    """What is timed, by name: every call does one global batch."""
    state, rows = run.state, run.place(next(iter(run.batches.iter_from(0))))
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
    rows, length = experiment.global_batch_size, experiment.corpus.sequence_length
    places = rows * masking.num_predictions(
        length, mask_rate=experiment.masking.mask_rate, all_positions=experiment.needs_all_positions
    )
    models = ({"teacher": teacher} if teacher and experiment.teacher_names else {}) | {"student": student}
    return {
        "encoder": {
            name: cost_model.encoder_flops(config, rows=rows, length=length) for name, config in models.items()
        },
        "words": {
            name: cost_model.masked_lm_head_flops(config, num_predictions=places) for name, config in models.items()
        },
    }


def _parts(seconds: dict[str, float], flops: dict[str, dict[str, int]], *, whole: float) -> list[PartTiming]:
    """From the times of programs, each of which holds the ones before, to those of the parts."""
    forward = sum(seconds[name] for name in flops["encoder"])
    backward = cost_model.BACKWARD_PASSES * (flops["encoder"]["student"] + flops["words"]["student"])
    return [
        *(PartTiming(f"{name}, forward", seconds[name], flops["encoder"][name]) for name in flops["encoder"]),
        PartTiming("losses", seconds["value"] - forward, sum(flops["words"].values())),
        PartTiming("backward", seconds["gradient"] - seconds["value"], backward),
        PartTiming("optimizer", seconds["update"] - seconds["gradient"], 0),
        PartTiming("update", seconds["update"], whole),
    ]


def _table(found: list[PartTiming], peak: float | None, dtype: str) -> Table:
    table = Table("part", "seconds", "share", "GFLOP", f"of the {dtype} peak")
    for part in found:
        share = part.seconds / found[-1].seconds
        of_peak = f"{part.flops / part.seconds / peak:.0%}" if peak and part.flops and part.seconds > 0 else ""
        table.add_row(part.name, f"{part.seconds:.3f}", f"{share:.0%}", f"{part.flops / 1e9:,.1f}", of_peak)
    return table
