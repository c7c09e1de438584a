"""Plans a run before it starts: its memory, its time, what its devices exchange, and its price.

The real training step is compiled ahead of time for the devices, if that is possible. The time is a lower bound from
the roofline model (Williams et al., 2009): the largest of the times that arithmetic, memory traffic and the exchange
between devices need.
"""

import collections
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import optax
from rich.table import Table

from distilbert_jax import log_keys
from distilbert_jax.config.experiment import Experiment
from distilbert_jax.data import masking
from distilbert_jax.devices.mesh import AnyMesh, count_row_devices, split_batch
from distilbert_jax.devices.sharding import check_divisible, make_shardings, partition_specs
from distilbert_jax.devices.specs import DEVICE_SPECS
from distilbert_jax.hub.load import parameter_shapes
from distilbert_jax.io.console import console
from distilbert_jax.losses import blockwise_logits
from distilbert_jax.losses.base import init_loss_params
from distilbert_jax.models import cost_model
from distilbert_jax.models.transformer import TransformerConfig
from distilbert_jax.performance import collectives
from distilbert_jax.performance.targets import Target
from distilbert_jax.train.distill.models import load_configs
from distilbert_jax.train.distill.setup import (
    cast_kernels,
    compute_flops,
    make_masking,
    make_objective,
    set_compute_options,
)
from distilbert_jax.train.memory_fit import StepMemory, compute_program_bytes, is_out_of_memory
from distilbert_jax.train.step import init_train_state, make_gradients, make_train_step
from distilbert_jax.types import TrainState

DISTILBERT_HOURS, DISTILBERT_GPUS = 90, 8  # the training of DistilBERT itself, on V100 (Sanh et al., 2019)
DEFAULT_ROWS_PER_DEVICE = 32  # of a micro-batch, if the experiment says "auto"
GOOD_FRACTION = 0.5  # the part of the roofline that good code reaches


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What one training step of an experiment needs on each of some devices.

    Attributes:
        experiment: the experiment.
        target: the devices.
        mesh: their mesh.
        per_device_batch_size: rows of a micro-batch on each device.
        accumulation: micro-batches of a step.
        memory_bytes: bytes of memory on each device.
        flops: floating-point operations of each device.
        traffic_bytes: bytes between each device and its memory.
        collectives: what the devices exchange.
    """

    experiment: Experiment
    target: Target
    mesh: AnyMesh
    per_device_batch_size: int
    accumulation: int
    memory_bytes: float
    flops: float
    traffic_bytes: float
    collectives: Sequence[collectives.Collective]

    @property
    def min_step_seconds(self) -> dict[str, float]:
        """The least seconds of a step, by what limits it."""
        seconds = {"arithmetic": self.flops / self.target.peak_flops(self.experiment.dtype)}
        spec = self.target.spec
        if spec:
            sent_bytes = sum(x.sent_bytes * x.times for x in self.collectives)
            seconds["memory traffic"] = self.traffic_bytes / spec.bandwidth
            seconds["exchange between devices"] = sent_bytes / spec.link
        return seconds

    @property
    def min_hours(self) -> float:
        """The least hours of the run."""
        return self.experiment.steps * max(self.min_step_seconds.values()) / 3_600

    @property
    def fits_in_memory(self) -> bool:
        """Whether a step fits in the memory of each device."""
        return self.memory_bytes <= self.target.memory_bytes


def plan(experiment: Experiment, target: Target, *, price: float | None = None) -> Plan:
    """Plans an experiment on some devices and prints the plan. Reads no weights and runs nothing.

    Args:
        experiment: the experiment.
        target: the devices.
        price: the price of one device for one hour, to print the price of the run.

    Raises:
        ValueError: the step cannot be divided over the devices, or the compiler says that it does not fit.
    """
    teacher, student = load_configs(experiment)
    mesh = target.make_mesh(fsdp=experiment.fsdp, tensor=experiment.tensor)
    configs = {"student": student} | ({"teacher": teacher} if teacher and experiment.teacher_names else {})
    configs = {role: set_compute_options(config, experiment) for role, config in configs.items()}
    for role, config in configs.items():
        check_divisible(config, mesh, role=role)
    per_device_batch_size = experiment.per_device_batch_size
    if per_device_batch_size == "auto":
        per_device_batch_size = DEFAULT_ROWS_PER_DEVICE
        console.print(
            "per_device_batch_size=auto is decided on the devices when the run starts. This plan assumes "
            f"{DEFAULT_ROWS_PER_DEVICE}."
        )
    accumulation, rows = split_batch(
        experiment.global_batch_size,
        per_device_batch_size=per_device_batch_size,
        num_devices=count_row_devices(mesh),
    )
    per_device_batch_size = rows // count_row_devices(mesh)
    workload = _device_workload(
        experiment, configs, mesh, rows=per_device_batch_size, accumulation=accumulation, platform=target.platform
    )
    if target.can_compile:
        compiled = _compile_step(experiment, configs, mesh, rows=per_device_batch_size)
        memory_bytes = float(compute_program_bytes(compiled))
        exchanged = collectives.parse_collectives(compiled.as_text() or "")
    else:
        memory_bytes = workload.memory_bytes()
        exchanged = _estimate_collectives(workload, mesh)
    result = Plan(
        experiment=experiment,
        target=target,
        mesh=mesh,
        per_device_batch_size=per_device_batch_size,
        accumulation=accumulation,
        memory_bytes=memory_bytes,
        flops=compute_flops(experiment, configs.get("teacher"), student)[log_keys.MFU.name] / mesh.size,
        traffic_bytes=workload.traffic_bytes(),
        collectives=exchanged,
    )
    console.print(_make_table(result, price))
    return result


def _compile_step(
    experiment: Experiment, configs: dict[str, TransformerConfig], mesh: Any, *, rows: int
) -> jax.stages.Compiled:
    """Returns the training step, compiled from shapes alone.

    Args:
        experiment: the experiment.
        configs: the configurations of the models by role, with their compute options.
        mesh: the devices.
        rows: rows of a micro-batch on each device.
    """
    tx = experiment.optimizer.make_transformation(experiment.steps)
    state, teachers = _argument_shapes(experiment, configs, tx, mesh)
    # The corpus need not be prepared yet: the token counts change what is masked, but not what that costs.
    make_batch = make_masking(
        experiment.masking,
        np.ones(configs["student"].vocab_size),
        mask_id=0,
        special_ids=(0,),
        all_positions=experiment.needs_all_positions,
    )
    compute_gradients = make_gradients(make_objective(experiment, configs, make_batch), mesh)
    step_memory = StepMemory(
        step=jax.jit(make_train_step(compute_gradients, tx, mesh), donate_argnums=0),
        state=state,
        teachers=teachers,
        global_batch_size=experiment.global_batch_size,
        length=experiment.corpus.sequence_length,
        mesh=mesh,
    )
    try:
        return step_memory.compile_step(rows)
    except jax.errors.JaxRuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(
            f"{experiment.name} does not fit with {rows} rows of a micro-batch on each device: "
            f"{str(error).splitlines()[0].strip()} Set a smaller per_device_batch_size, remat=layers, or a larger "
            "fsdp, which divides the parameters over more devices."
        ) from error


def _argument_shapes(
    experiment: Experiment, configs: dict[str, TransformerConfig], tx: optax.GradientTransformation, mesh: Any
) -> tuple[Any, Any]:
    """Returns the shapes and shardings of the state and of the teachers' parameters."""

    def init_losses() -> Any:
        return init_loss_params(
            experiment.losses,
            seed=0,
            student_size=configs["student"].hidden_size,
            teacher_size=configs["teacher"].hidden_size if "teacher" in configs else None,
        )

    def init_state(params: Any) -> TrainState:
        return init_train_state(params, tx, mesh, dtype=experiment.dtype)

    def cast_teacher_kernels(params: Any) -> Any:
        return cast_kernels(params, experiment.dtype)

    def add_sharding(x: Any, sharding: Any) -> Any:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    params = {"student": parameter_shapes(configs["student"]), "losses": jax.eval_shape(init_losses)}
    state = jax.eval_shape(init_state, params)
    teachers = {
        name: jax.eval_shape(cast_teacher_kernels, parameter_shapes(configs[name])) for name in experiment.teacher_names
    }
    return (
        jax.tree.map(add_sharding, state, make_shardings(state, mesh)),
        jax.tree.map(add_sharding, teachers, make_shardings(teachers, mesh)),
    )


def _device_workload(
    experiment: Experiment,
    configs: dict[str, TransformerConfig],
    mesh: AnyMesh,
    *,
    rows: int,
    accumulation: int,
    platform: str,
) -> cost_model.DeviceWorkload:
    """Returns what each device does in a step, from which memory and traffic are estimated.

    Args:
        experiment: the experiment.
        configs: the configurations of the models by role, with their compute options.
        mesh: the devices.
        rows: rows of a micro-batch on each device.
        accumulation: micro-batches of a step.
        platform: the platform of the devices, which decides how many rows of logits are in memory at once.
    """
    length = experiment.corpus.sequence_length
    parameters = {role: _parameters_per_device(parameter_shapes(config), mesh) for role, config in configs.items()}
    num_predictions = masking.num_predictions(
        length, mask_rate=experiment.masking.mask_rate, all_positions=experiment.needs_all_positions
    )
    return cost_model.DeviceWorkload(
        student=configs["student"],
        teacher=configs.get("teacher"),
        parameters=parameters["student"],
        teacher_parameters=parameters.get("teacher", 0.0),
        rows=rows,
        accumulation=accumulation,
        length=length,
        num_predictions=num_predictions,
        predictions_per_block=blockwise_logits.predictions_per_block(platform, experiment.dtype),
    )


def _parameters_per_device(tree: Any, mesh: AnyMesh) -> float:
    """Returns how many parameters of a tree each device holds."""

    def count(x: Any, spec: Any) -> float:
        return x.size / math.prod(mesh.shape[axis] for axis in spec if axis)

    return float(sum(jax.tree.leaves(jax.tree.map(count, tree, partition_specs(tree, mesh)))))


def _estimate_collectives(workload: cost_model.DeviceWorkload, mesh: AnyMesh) -> list[collectives.Collective]:
    """Returns what devices exchange in a step that is not compiled: all gradients, once."""
    if mesh.size == 1:
        return []
    size = round(cost_model.FLOAT32_BYTES * workload.parameters)
    return [collectives.Collective(kind="all-reduce", bytes=size, group_size=mesh.size, times=1)]


def _make_table(result: Plan, price: float | None) -> Table:
    """Returns the plan as a table.

    Args:
        result: the plan.
        price: the price of one device for one hour, or None.
    """
    target, dtype, seconds = result.target, result.experiment.dtype, result.min_step_seconds
    axes = " × ".join(f"{name} {size}" for name, size in result.mesh.shape.items())
    estimate = "" if target.can_compile else "; an estimate by arithmetic, nothing was compiled"
    table = Table(
        title=f"{result.experiment.name} on {target.name}: {axes}{estimate}", title_justify="left", show_header=False
    )
    table.add_row(
        "rows", f"micro-batches of {result.per_device_batch_size} on each device, {result.accumulation} per step"
    )
    if result.fits_in_memory:
        verdict = "fits"
    else:
        verdict = "does not fit; set a smaller per_device_batch_size, remat=layers, or a larger fsdp"
    needed = f"{'' if target.can_compile else 'at least '}{result.memory_bytes / 1e9:.2f} GB"
    table.add_row("memory", f"{needed} of {target.memory_bytes / 1e9:.0f} GB on each device: {verdict}")
    speed = f"{target.peak_flops(dtype) / 1e12:,.3g} TFLOP/s in {dtype}"
    time = _format_milliseconds(seconds["arithmetic"])
    table.add_row("arithmetic", f"{result.flops / 1e12:,.3g} TFLOP at {speed}: {time}")
    if target.spec:
        traffic = f"{result.traffic_bytes / 1e9:.1f} GB at {target.spec.bandwidth / 1e9:,.0f} GB/s"
        table.add_row("memory traffic", f"{traffic}: {_format_milliseconds(seconds['memory traffic'])}")
        time = _format_milliseconds(seconds["exchange between devices"])
        link = f"at {target.spec.link / 1e9:,.0f} GB/s: {time}"
        table.add_row("exchange", "\n".join([*_format_collectives(result.collectives), link]))
    limit = max(seconds, key=lambda name: seconds[name])
    table.add_row("one step", f"at least {_format_milliseconds(seconds[limit])}, limited by {limit}")
    table.add_row(f"{result.experiment.steps:,} steps", _format_run(result, price))
    device_hours, watts = DISTILBERT_HOURS * DISTILBERT_GPUS, DEVICE_SPECS["V100"].watts
    energy = f", {device_hours * watts / 1_000:,.0f} kWh" if watts else ""
    table.add_row(
        "DistilBERT itself",
        f"{DISTILBERT_HOURS} h on {DISTILBERT_GPUS} V100: {device_hours} device hours{energy} (Sanh et al., 2019)",
    )
    return table


def _format_run(result: Plan, price: float | None) -> str:
    """Formats the time, energy and price of the run, at the limit of the roofline and at `GOOD_FRACTION` of it."""
    lines = []
    for fraction, label in ((1.0, "at the limit"), (GOOD_FRACTION, f"at {GOOD_FRACTION:.0%} of the limit")):
        hours = result.min_hours / fraction
        device_hours = hours * result.mesh.size
        line = f"{hours:,.2f} h {label}, {device_hours:,.1f} device hours"
        if result.target.spec and result.target.spec.watts:
            line += f", {device_hours * result.target.spec.watts / 1_000:,.0f} kWh"
        if price:
            line += f", {device_hours * price:,.0f} at a price of {price:g} per device hour"
        lines.append(line)
    return "\n".join(lines)


def _format_collectives(exchanged: Sequence[collectives.Collective]) -> list[str]:
    """Returns one line for each kind of collective, group size and number of runs per step."""
    groups = collections.defaultdict(list)
    for collective in exchanged:
        groups[collective.kind, collective.group_size, collective.times].append(collective.bytes)
    return [
        f"{len(sizes)} {kind} in groups of {group_size} devices: {sum(sizes) / 1e6:,.1f} MB, {times} × per step"
        for (kind, group_size, times), sizes in sorted(groups.items())
    ] or ["nothing"]


def _format_milliseconds(seconds: float) -> str:
    """Returns a time in milliseconds."""
    return f"{1_000 * seconds:,.1f} ms"
