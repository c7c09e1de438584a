"""Times the parts of a training step: forward passes, losses, backward pass and optimizer."""

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
from distilbert_jax.io.console import console, print_warning
from distilbert_jax.models import cost_model
from distilbert_jax.models.transformer import TransformerConfig
from distilbert_jax.performance.latency import measure_latencies
from distilbert_jax.train.distill.inputs import load_inputs
from distilbert_jax.train.distill.setup import DistillSetup, setup_distillation


@dataclasses.dataclass(frozen=True)
class PartTiming:
    """The time of one part of a training step.

    Attributes:
        name: the part.
        seconds: its time.
        flops: the floating-point operations that it requires.
    """

    name: str
    seconds: float
    flops: float


def time_step_parts(experiment: Experiment, *, repeats: int = 5) -> list[PartTiming]:
    """Times the parts of a training step on the devices of this machine, and prints them as a table.

    A forward pass is timed by itself. The times of the other parts are differences: the losses take the time of the
    objective's value minus the forward passes, the backward pass that of the gradient minus the value, and the
    optimizer that of the full step minus the gradient. In a small model a difference can be less than zero.

    Args:
        experiment: the experiment.
        repeats: how often each program is timed. The median counts.

    Returns:
        The parts, and the full step as the last one.
    """
    # Measured before anything else keeps the cores busy, and again at the end.
    peak_flops(experiment.dtype)
    inputs = load_inputs(experiment)
    setup = setup_distillation(experiment, inputs)
    programs = _make_programs(setup)
    latencies = measure_latencies(list(programs.values()), repeats=repeats)
    seconds = {name: milliseconds / 1_000 for name, milliseconds in zip(programs, latencies, strict=True)}
    forward_flops = _forward_flops(experiment, inputs.student.config, inputs.teacher.config if inputs.teacher else None)
    parts = _compute_parts(seconds, forward_flops, step_flops=setup.flops[log_keys.MFU.name])
    peak = peak_flops(experiment.dtype, remeasure=True)
    console.print(_make_table(parts, peak, experiment.dtype))
    if peak and (above := [part.name for part in parts if compute_peak_share(part, peak) > 1]):
        print_warning(
            f"{', '.join(above)}: a share above 100 % means that the peak was measured on busy cores and is too low. "
            "Run the command again on an idle machine."
        )
    return parts


def compute_peak_share(part: PartTiming, peak: float) -> float:
    """Returns the share of the peak FLOP/s that a part reaches, or 0 if it has no arithmetic or no measurable time."""
    return part.flops / part.seconds / peak if part.flops and part.seconds > 0 else 0.0


def _make_programs(setup: DistillSetup) -> dict[str, Callable[[], Any]]:
    """Returns the programs that are timed, by name. Each call computes one global batch."""
    state, rows = setup.state, setup.put_batch(next(iter(setup.batches.iter_from(0))))
    # No result depends on the gradients here, so XLA leaves the backward pass out.
    compute_value = jax.jit(lambda *arguments: setup.compute_gradients(*arguments)[1])

    def forward(name: str) -> Any:
        params = state.params["student"] if name == "student" else setup.teachers[name]
        return setup.forward[name](params, rows)

    def value() -> Any:
        return compute_value(state.params, setup.teachers, rows)

    def gradient() -> Any:
        return setup.compute_gradients(state.params, setup.teachers, rows)

    def step() -> Any:
        nonlocal state
        state, metrics = setup.train_step(state, setup.teachers, rows)
        return metrics

    models = [name for name in (*setup.teachers, "student") if name in setup.forward]
    forward_passes = {name: functools.partial(forward, name) for name in models}
    return {**forward_passes, "value": value, "gradient": gradient, "step": step}


def _forward_flops(
    experiment: Experiment, student: TransformerConfig, teacher: TransformerConfig | None
) -> dict[str, dict[str, int]]:
    """Returns the floating-point operations of the forward pass of each model's "encoder" and "head"."""
    rows, length = experiment.global_batch_size, experiment.corpus.sequence_length
    num_predictions = rows * masking.num_predictions(
        length, mask_rate=experiment.masking.mask_rate, all_positions=experiment.needs_all_positions
    )
    models = ({"teacher": teacher} if teacher and experiment.teacher_names else {}) | {"student": student}
    return {
        "encoder": {
            name: cost_model.encoder_flops(config, rows=rows, length=length) for name, config in models.items()
        },
        "head": {
            name: cost_model.masked_lm_head_flops(config, num_predictions=num_predictions)
            for name, config in models.items()
        },
    }


def _compute_parts(
    seconds: dict[str, float], forward_flops: dict[str, dict[str, int]], *, step_flops: float
) -> list[PartTiming]:
    """Returns the times of the parts, from the times of programs of which each includes the ones before it."""
    encoder, head = forward_flops["encoder"], forward_flops["head"]
    forward_seconds = sum(seconds[name] for name in encoder)
    backward_flops = cost_model.BACKWARD_PASSES * (encoder["student"] + head["student"])
    return [
        *(PartTiming(f"{name}, forward", seconds[name], encoder[name]) for name in encoder),
        PartTiming("losses", seconds["value"] - forward_seconds, sum(head.values())),
        PartTiming("backward", seconds["gradient"] - seconds["value"], backward_flops),
        PartTiming("optimizer", seconds["step"] - seconds["gradient"], 0),
        PartTiming("full step", seconds["step"], step_flops),
    ]


def _make_table(parts: list[PartTiming], peak: float | None, dtype: str) -> Table:
    """Returns the table of the parts.

    Args:
        parts: the parts, the full step last.
        peak: the FLOP/s that the devices reach at most in `dtype`, if that is known.
        dtype: the type that the models compute in.
    """
    table = Table("part", "seconds", "share of the step", "GFLOP", f"of the {dtype} peak")
    for part in parts:
        share = part.seconds / parts[-1].seconds
        peak_share = compute_peak_share(part, peak) if peak else 0.0
        utilization = f"{peak_share:.0%}" if peak_share else ""
        table.add_row(part.name, f"{part.seconds:.3f}", f"{share:.0%}", f"{part.flops / 1e9:,.1f}", utilization)
    return table
