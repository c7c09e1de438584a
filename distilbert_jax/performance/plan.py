"""What a run will take, before it: the real step compiled ahead of time for the devices it is meant for, and the
roofline (Williams et al., 2009) of its arithmetic.
"""

import collections
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from rich.table import Table

from distilbert_jax import log_keys
from distilbert_jax.config.experiment import Experiment
from distilbert_jax.data import masking
from distilbert_jax.devices.mesh import AnyMesh, count_row_devices, split_batch
from distilbert_jax.devices.sharding import check_divisible, partition_specs, shardings
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
from distilbert_jax.train.distill.setup import cast_kernels, flops, make_masking, make_objective, with_compute_options
from distilbert_jax.train.memory_fit import StepMemory, is_out_of_memory, program_bytes
from distilbert_jax.train.step import init_train_state, make_gradients, make_train_step

HOURS, GPUS = 90, 8  # of DistilBERT's own run, on V100 (Sanh et al., 2019)
ROWS = 32  # at once on a device, where an experiment leaves it open
HALF = 0.5  # of the roofline: what good code reaches


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """An experiment on devices. Seconds are those of one update, at the least."""

    experiment: Experiment
    target: Target
    mesh: AnyMesh
    rows: int  # at once on each device
    accumulation: int
    memory: float  # bytes on each device
    arithmetic: float  # floating point operations of each device
    traffic: float  # bytes between each device and its memory
    collectives: Sequence[collectives.Collective]

    @property
    def seconds(self) -> dict[str, float]:
        """By what bounds an update."""
        found = {"arithmetic": self.arithmetic / self.target.peak_flops(self.experiment.dtype)}
        device = self.target.spec
        if device:
            found["memory traffic"] = self.traffic / device.bandwidth
            found["exchange between devices"] = sum(x.sent_bytes * x.times for x in self.collectives) / device.link
        return found

    @property
    def hours(self) -> float:
        """Of the whole run, at the least."""
        return self.experiment.steps * max(self.seconds.values()) / 3_600

    @property
    def fits(self) -> bool:
        return self.memory <= self.target.memory_bytes


def plan(experiment: Experiment, target: Target, *, price: float | None = None) -> Plan:
    """Plans `experiment` on `target` and prints it, with the cost at a `price` of an hour of one device. Compiles, runs
    nothing, and reads no weights. ValueError where the step cannot be spread over these devices, or does not fit them.
    """
    teacher, student = load_configs(experiment)
    mesh = target.make_mesh(fsdp=experiment.fsdp, tensor=experiment.tensor)
    configs = {"student": student} | ({"teacher": teacher} if teacher and experiment.teacher_names else {})
    configs = {who: with_compute_options(config, experiment) for who, config in configs.items()}
    for who, config in configs.items():
        check_divisible(config, mesh, role=who)
    at_once = experiment.per_device_batch_size
    if at_once == "auto":
        at_once = ROWS
        console.print(f"per_device_batch_size=auto is decided on the device itself; planned with {ROWS}")
    accumulation, rows = split_batch(
        experiment.global_batch_size, per_device_batch_size=at_once, num_devices=count_row_devices(mesh)
    )
    each = rows // count_row_devices(mesh)
    block = blockwise_logits.rows_per_block(target.platform, experiment.dtype)
    share = _share(experiment, configs, mesh, rows=each, accumulation=accumulation, block=block)
    if target.compiles:
        compiled = _compiled(experiment, configs, mesh, rows=each)
        memory, exchanged = float(program_bytes(compiled)), collectives.parse_collectives(compiled.as_text() or "")
    else:
        memory, exchanged = share.memory_bytes(), _of_gradients(share, mesh)
    found = Plan(
        experiment=experiment,
        target=target,
        mesh=mesh,
        rows=each,
        accumulation=accumulation,
        memory=memory,
        arithmetic=flops(experiment, configs.get("teacher"), student)[log_keys.MFU.name] / mesh.size,
        traffic=share.traffic_bytes(),
        collectives=exchanged,
    )
    console.print(_table(found, price))
    return found


def _compiled(
    experiment: Experiment, configs: dict[str, TransformerConfig], mesh: Any, *, rows: int
) -> jax.stages.Compiled:
    """The train step, of shapes alone."""
    tx = experiment.optimizer.make_transformation(experiment.steps)
    theirs = configs["teacher"].hidden_size if "teacher" in configs else None
    of_losses = lambda: init_loss_params(
        experiment.losses, seed=0, student_size=configs["student"].hidden_size, teacher_size=theirs
    )
    params = {"student": parameter_shapes(configs["student"]), "losses": jax.eval_shape(of_losses)}
    state = jax.eval_shape(lambda params: init_train_state(params, tx, mesh, dtype=experiment.dtype), params)
    known = lambda config: jax.eval_shape(
        lambda params: cast_kernels(params, experiment.dtype), parameter_shapes(config)
    )
    teachers = {name: known(configs[name]) for name in experiment.teacher_names}
    place: Any = lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
    state, teachers = (jax.tree.map(place, tree, shardings(tree, mesh)) for tree in (state, teachers))
    # The corpus need not be prepared yet: how often its tokens occur changes what is masked, not what that costs.
    ask = make_masking(
        experiment.masking,
        np.ones(configs["student"].vocab_size),
        mask_id=0,
        special_ids=(0,),
        all_positions=experiment.needs_all_positions,
    )
    gradients = make_gradients(make_objective(experiment, configs, ask), mesh)
    fits = StepMemory(
        step=jax.jit(make_train_step(gradients, tx, mesh), donate_argnums=0),
        state=state,
        teachers=teachers,
        global_batch_size=experiment.global_batch_size,
        length=experiment.corpus.sequence_length,
        mesh=mesh,
    )
    try:
        return fits.compiled(rows)
    except jax.errors.JaxRuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(
            f"{experiment.name} does not fit: {str(error).splitlines()[0].strip()} With {rows} rows at once on each "
            f"device; take fewer (per_device_batch_size), remat=layers, or more devices for a copy (fsdp)"
        ) from error


def _share(
    experiment: Experiment,
    configs: dict[str, TransformerConfig],
    mesh: AnyMesh,
    *,
    rows: int,
    accumulation: int,
    block: int,
) -> cost_model.DeviceWorkload:
    length = experiment.corpus.sequence_length
    kept = {who: _kept(parameter_shapes(config), mesh) for who, config in configs.items()}
    places = masking.num_predictions(
        length, mask_rate=experiment.masking.mask_rate, all_positions=experiment.needs_all_positions
    )
    return cost_model.DeviceWorkload(
        student=configs["student"],
        teacher=configs.get("teacher"),
        parameters=kept["student"],
        teacher_parameters=kept.get("teacher", 0.0),
        rows=rows,
        accumulation=accumulation,
        length=length,
        num_predictions=places,
        block_rows=block,
    )


def _kept(tree: Any, mesh: AnyMesh) -> float:
    """Parameters of a tree that one device keeps."""
    cut: Any = lambda x, spec: x.size / math.prod(mesh.shape[axis] for axis in spec if axis)
    return float(sum(jax.tree.leaves(jax.tree.map(cut, tree, partition_specs(tree, mesh)))))


def _of_gradients(share: cost_model.DeviceWorkload, mesh: AnyMesh) -> list[collectives.Collective]:
    """What a program exchanges that is not compiled: the gradients, once."""
    size = round(cost_model.FLOAT32_BYTES * share.parameters)
    return (
        [collectives.Collective(kind="all-reduce", bytes=size, group_size=mesh.size, times=1)] if mesh.size > 1 else []
    )


def _table(found: Plan, price: float | None) -> Table:
    target, dtype, axes = (
        found.target,
        found.experiment.dtype,
        " × ".join(f"{name} {size}" for name, size in found.mesh.shape.items()),
    )
    estimate = "" if target.compiles else "; an estimate by arithmetic, nothing was compiled"
    table = Table(
        title=f"{found.experiment.name} on {target.name}: {axes}{estimate}", title_justify="left", show_header=False
    )
    table.add_row("rows", f"{found.rows} at once on each device, {found.accumulation} times an update")
    verdict = "fits" if found.fits else "does not fit: fewer per_device_batch_size, remat=layers, or a larger fsdp"
    needed = f"{'' if target.compiles else 'at least '}{found.memory / 1e9:.2f} GB"
    table.add_row("memory", f"{needed} of {target.memory_bytes / 1e9:.0f} GB on each device: {verdict}")
    seconds = found.seconds
    speed = f"{target.peak_flops(dtype) / 1e12:,.3g} TFLOP/s in {dtype}"
    table.add_row("arithmetic", f"{found.arithmetic / 1e12:,.3g} TFLOP at {speed}: {_ms(seconds['arithmetic'])}")
    if target.spec:
        traffic = f"{found.traffic / 1e9:.1f} GB at {target.spec.bandwidth / 1e9:,.0f} GB/s"
        table.add_row("memory traffic", f"{traffic}: {_ms(seconds['memory traffic'])}")
        link = f"at {target.spec.link / 1e9:,.0f} GB/s: {_ms(seconds['exchange between devices'])}"
        table.add_row("exchange", "\n".join([*_exchanged(found.collectives), link]))
    bound = max(seconds, key=lambda name: seconds[name])
    table.add_row("an update", f"at least {_ms(seconds[bound])}, bound by {bound}")
    table.add_row(f"{found.experiment.steps:,} updates", _whole(found, price))
    original, watts = HOURS * GPUS, DEVICE_SPECS["V100"].watts
    energy = f", {original * watts / 1_000:,.0f} kWh" if watts else ""
    table.add_row("DistilBERT's own", f"{HOURS} h of {GPUS} V100: {original} device hours{energy}")
    return table


def _whole(found: Plan, price: float | None) -> str:
    lines = []
    for share, said in ((1.0, "at the limit"), (HALF, "at half of it")):
        hours = found.hours / share
        text = f"{hours:,.2f} h {said}, {hours * found.mesh.size:,.1f} device hours"
        if found.target.spec and found.target.spec.watts:
            text += f", {hours * found.mesh.size * found.target.spec.watts / 1_000:,.0f} kWh"
        lines.append(text + (f", {hours * found.mesh.size * price:,.0f} at {price:g} an hour" if price else ""))
    return "\n".join(lines)


def _exchanged(found: Sequence[collectives.Collective]) -> list[str]:
    groups = collections.defaultdict(list)
    for each in found:
        groups[each.kind, each.group_size, each.times].append(each.bytes)
    return [
        f"{len(sizes)} {kind} among {among}, {sum(sizes) / 1e6:,.1f} MB, {times} times"
        for (kind, among, times), sizes in sorted(groups.items())
    ] or ["nothing"]


def _ms(seconds: float) -> str:
    return f"{1_000 * seconds:,.1f} ms"
