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
from distilbert_jax.devices.mesh import Axes, row_devices, split
from distilbert_jax.devices.sharding import demand_divides, shardings, specs
from distilbert_jax.devices.specs import DEVICES
from distilbert_jax.hub.load import parameter_shapes
from distilbert_jax.io.console import console
from distilbert_jax.losses import blockwise_logits
from distilbert_jax.losses.base import first_params
from distilbert_jax.models import cost_model
from distilbert_jax.models.transformer import TransformerConfig
from distilbert_jax.performance import collectives
from distilbert_jax.performance.targets import Target
from distilbert_jax.train.distill.models import shapes
from distilbert_jax.train.distill.setup import computed, flops, in_type, make_masking, make_objective
from distilbert_jax.train.memory_fit import Fits, bytes_of, out_of_memory
from distilbert_jax.train.step import make_gradients, make_train_step, start

HOURS, GPUS = 90, 8  # of DistilBERT's own run, on V100 (Sanh et al., 2019)
ROWS = 32  # at once on a device, where an experiment leaves it open
HALF = 0.5  # of the roofline: what good code reaches


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """An experiment on devices. Seconds are those of one update, at the least."""

    experiment: Experiment
    target: Target
    mesh: Axes
    rows: int  # at once on each device
    accumulation: int
    memory: float  # bytes on each device
    arithmetic: float  # floating point operations of each device
    traffic: float  # bytes between each device and its memory
    exchanged: Sequence[collectives.Collective]

    @property
    def seconds(self) -> dict[str, float]:
        """By what bounds an update."""
        found = {"arithmetic": self.arithmetic / self.target.peak(self.experiment.dtype)}
        device = self.target.device
        if device:
            found["memory traffic"] = self.traffic / device.bandwidth
            found["exchange between devices"] = sum(x.sent * x.times for x in self.exchanged) / device.link
        return found

    @property
    def hours(self) -> float:
        """Of the whole run, at the least."""
        return self.experiment.steps * max(self.seconds.values()) / 3_600

    @property
    def fits(self) -> bool:
        return self.memory <= self.target.memory


def plan(experiment: Experiment, target: Target, *, price: float | None = None) -> Plan:
    """Plans `experiment` on `target` and prints it, with the cost at a `price` of an hour of one device. Compiles, runs
    nothing, and reads no weights. ValueError where the step cannot be spread over these devices, or does not fit them.
    """
    teacher, student = shapes(experiment)
    mesh = target.mesh(fsdp=experiment.fsdp, tensor=experiment.tensor)
    cfgs = {"student": student} | ({"teacher": teacher} if teacher and experiment.taught_by else {})
    cfgs = {who: computed(cfg, experiment) for who, cfg in cfgs.items()}
    for who, cfg in cfgs.items():
        demand_divides(cfg, mesh, who=who)
    at_once = experiment.rows_per_device
    if at_once == "auto":
        at_once = ROWS
        console.print(f"rows_per_device=auto is decided on the device itself; planned with {ROWS}")
    accumulation, rows = split(experiment.global_batch, rows_per_device=at_once, devices=row_devices(mesh))
    each = rows // row_devices(mesh)
    block = blockwise_logits.rows_at_once(target.platform, experiment.dtype)
    share = _share(experiment, cfgs, mesh, rows=each, accumulation=accumulation, block=block)
    if target.compiles:
        compiled = _compiled(experiment, cfgs, mesh, rows=each)
        memory, exchanged = float(bytes_of(compiled)), collectives.read(compiled.as_text() or "")
    else:
        memory, exchanged = share.memory(), _of_gradients(share, mesh)
    found = Plan(
        experiment=experiment,
        target=target,
        mesh=mesh,
        rows=each,
        accumulation=accumulation,
        memory=memory,
        arithmetic=flops(experiment, cfgs.get("teacher"), student)[log_keys.MFU.name] / mesh.size,
        traffic=share.traffic(),
        exchanged=exchanged,
    )
    console.print(_table(found, price))
    return found


def _compiled(
    experiment: Experiment, cfgs: dict[str, TransformerConfig], mesh: Any, *, rows: int
) -> jax.stages.Compiled:
    """The train step, of shapes alone."""
    tx = experiment.optimizer.transformation(experiment.steps)
    theirs = cfgs["teacher"].hidden_size if "teacher" in cfgs else None
    of_losses = lambda: first_params(
        experiment.losses, seed=0, student_size=cfgs["student"].hidden_size, teacher_size=theirs
    )
    params = {"student": parameter_shapes(cfgs["student"]), "losses": jax.eval_shape(of_losses)}
    state = jax.eval_shape(lambda params: start(params, tx, mesh, dtype=experiment.dtype), params)
    known = lambda cfg: jax.eval_shape(lambda params: in_type(params, experiment.dtype), parameter_shapes(cfg))
    teachers = {name: known(cfgs[name]) for name in experiment.taught_by}
    place: Any = lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
    state, teachers = (jax.tree.map(place, tree, shardings(tree, mesh)) for tree in (state, teachers))
    # The corpus need not be prepared yet: how often its tokens occur changes what is masked, not what that costs.
    ask = make_masking(
        experiment.masking,
        np.ones(cfgs["student"].vocab_size),
        mask_id=0,
        special_ids=(0,),
        all_positions=experiment.asks_everywhere,
    )
    gradients = make_gradients(make_objective(experiment, cfgs, ask), mesh)
    fits = Fits(
        step=jax.jit(make_train_step(gradients, tx, mesh), donate_argnums=0),
        state=state,
        teachers=teachers,
        global_batch=experiment.global_batch,
        length=experiment.corpus.row_length,
        mesh=mesh,
    )
    try:
        return fits.compiled(rows)
    except jax.errors.JaxRuntimeError as error:
        if not out_of_memory(error):
            raise
        raise ValueError(
            f"{experiment.name} does not fit: {str(error).splitlines()[0].strip()} With {rows} rows at once on each "
            f"device; take fewer (rows_per_device), remat=layers, or more devices for a copy (fsdp)"
        ) from error


def _share(
    experiment: Experiment, cfgs: dict[str, TransformerConfig], mesh: Axes, *, rows: int, accumulation: int, block: int
) -> cost_model.Share:
    length = experiment.corpus.row_length
    kept = {who: _kept(parameter_shapes(cfg), mesh) for who, cfg in cfgs.items()}
    places = masking.places(length, share=experiment.masking.share, everywhere=experiment.asks_everywhere)
    return cost_model.Share(
        student=cfgs["student"],
        teacher=cfgs.get("teacher"),
        parameters=kept["student"],
        taught=kept.get("teacher", 0.0),
        rows=rows,
        accumulation=accumulation,
        length=length,
        places=places,
        block=block,
    )


def _kept(tree: Any, mesh: Axes) -> float:
    """Parameters of a tree that one device keeps."""
    cut: Any = lambda x, spec: x.size / math.prod(mesh.shape[axis] for axis in spec if axis)
    return float(sum(jax.tree.leaves(jax.tree.map(cut, tree, specs(tree, mesh)))))


def _of_gradients(share: cost_model.Share, mesh: Axes) -> list[collectives.Collective]:
    """What a program exchanges that is not compiled: the gradients, once."""
    size = round(cost_model.WIDE * share.parameters)
    return [collectives.Collective(kind="all-reduce", bytes=size, among=mesh.size, times=1)] if mesh.size > 1 else []


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
    verdict = "fits" if found.fits else "does not fit: fewer rows_per_device, remat=layers, or a larger fsdp"
    needed = f"{'' if target.compiles else 'at least '}{found.memory / 1e9:.2f} GB"
    table.add_row("memory", f"{needed} of {target.memory / 1e9:.0f} GB on each device: {verdict}")
    seconds = found.seconds
    speed = f"{target.peak(dtype) / 1e12:,.3g} TFLOP/s in {dtype}"
    table.add_row("arithmetic", f"{found.arithmetic / 1e12:,.3g} TFLOP at {speed}: {_ms(seconds['arithmetic'])}")
    if target.device:
        traffic = f"{found.traffic / 1e9:.1f} GB at {target.device.bandwidth / 1e9:,.0f} GB/s"
        table.add_row("memory traffic", f"{traffic}: {_ms(seconds['memory traffic'])}")
        link = f"at {target.device.link / 1e9:,.0f} GB/s: {_ms(seconds['exchange between devices'])}"
        table.add_row("exchange", "\n".join([*_exchanged(found.exchanged), link]))
    bound = max(seconds, key=lambda name: seconds[name])
    table.add_row("an update", f"at least {_ms(seconds[bound])}, bound by {bound}")
    table.add_row(f"{found.experiment.steps:,} updates", _whole(found, price))
    original, watts = HOURS * GPUS, DEVICES["V100"].watts
    energy = f", {original * watts / 1_000:,.0f} kWh" if watts else ""
    table.add_row("DistilBERT's own", f"{HOURS} h of {GPUS} V100: {original} device hours{energy}")
    return table


def _whole(found: Plan, price: float | None) -> str:
    lines = []
    for share, said in ((1.0, "at the limit"), (HALF, "at half of it")):
        hours = found.hours / share
        text = f"{hours:,.2f} h {said}, {hours * found.mesh.size:,.1f} device hours"
        if found.target.device and found.target.device.watts:
            text += f", {hours * found.mesh.size * found.target.device.watts / 1_000:,.0f} kWh"
        lines.append(text + (f", {hours * found.mesh.size * price:,.0f} at {price:g} an hour" if price else ""))
    return "\n".join(lines)


def _exchanged(found: Sequence[collectives.Collective]) -> list[str]:
    groups = collections.defaultdict(list)
    for each in found:
        groups[each.kind, each.among, each.times].append(each.bytes)
    return [
        f"{len(sizes)} {kind} among {among}, {sum(sizes) / 1e6:,.1f} MB, {times} times"
        for (kind, among, times), sizes in sorted(groups.items())
    ] or ["nothing"]


def _ms(seconds: float) -> str:
    return f"{1_000 * seconds:,.1f} ms"
