"""Devices: the mesh, and how a global batch falls on it.

Rows fall on two axes: along `data` every device has all parameters, along `fsdp` each keeps a part of them (Rajbhandari
et al., 2019). Along `tensor` devices share a row: its heads, its MLP and its words (Shoeybi et al., 2019).
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

DATA, FSDP, TENSOR = "data", "fsdp", "tensor"
ROWS = (DATA, FSDP)  # the axes that rows fall on
Axes = Mesh | AbstractMesh  # where only their sizes count


def make_mesh(*, fsdp: int = 1, tensor: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """These devices, or every one of every process; `data` is what the other two axes leave. ValueError where they do
    not divide the devices, or `tensor` those of a process.
    """
    devices = jax.devices() if devices is None else devices
    count, local = len(devices), sum(each.process_index == devices[0].process_index for each in devices)
    if count % (fsdp * tensor):
        raise ValueError(
            f"fsdp={fsdp} × tensor={tensor} does not divide {count} devices: choose {_in_words(divisors(count))} "
            "as their product"
        )
    if local % tensor:
        raise ValueError(
            f"tensor={tensor} does not divide the {local} devices of a process, and they exchange too much for a "
            f"network: choose {_in_words(divisors(local))}"
        )
    shape = (count // (fsdp * tensor), fsdp, tensor)
    return jax.make_mesh(shape, (*ROWS, TENSOR), axis_types=(AxisType.Auto,) * 3, devices=devices)


def row_devices(mesh: Axes) -> int:
    """Over how many parts rows are split."""
    return mesh.shape[DATA] * mesh.shape[FSDP]


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, P())


def over_devices(mesh: Mesh) -> NamedSharding:
    """For [devices]: one value each."""
    return NamedSharding(mesh, P((*ROWS, TENSOR)))


def over_rows(mesh: Mesh) -> NamedSharding:
    """For [accumulation, b, …] leaves: b falls on the devices, accumulation on none."""
    return NamedSharding(mesh, P(None, ROWS))


def split(global_batch: int, *, rows_per_device: int, devices: int) -> tuple[int, int]:
    """(accumulation, rows b of a micro-batch over all devices): the fewest micro-batches with at most `rows_per_device`
    rows on each device.

    Raises ValueError where the global batch does not divide by the devices.
    """
    if global_batch % devices:
        raise ValueError(
            f"global_batch={global_batch} does not divide by {devices} devices: choose a multiple of {devices}"
        )
    each = global_batch // devices
    rows = max(n for n in divisors(each) if n <= rows_per_device)
    return each // rows, rows * devices


def place(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Puts this process's rows of a global batch, [accumulation, b of this process, …], onto its devices."""
    return {name: jax.make_array_from_process_local_data(over_rows(mesh), x) for name, x in batch.items()}


def divisors(count: int) -> list[int]:
    """From 1 up."""
    return [n for n in range(1, count + 1) if count % n == 0]


def _in_words(choices: list[int]) -> str:
    return " or ".join(filter(None, (", ".join(map(str, choices[:-1])), str(choices[-1]))))
