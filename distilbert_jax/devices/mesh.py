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
ROW_AXES = (DATA, FSDP)  # the axes that rows fall on
AnyMesh = Mesh | AbstractMesh  # where only their sizes count


def make_mesh(*, fsdp: int = 1, tensor: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """These devices, or every one of every process; `data` is what the other two axes leave. ValueError where they do
    not divide the devices, or `tensor` those of a process.
    """
    devices = jax.devices() if devices is None else devices
    count, local = len(devices), sum(each.process_index == devices[0].process_index for each in devices)
    if count % (fsdp * tensor):
        raise ValueError(
            f"fsdp={fsdp} × tensor={tensor} does not divide {count} devices: choose {_in_words(list_divisors(count))} "
            "as their product"
        )
    if local % tensor:
        raise ValueError(
            f"tensor={tensor} does not divide the {local} devices of a process, and they exchange too much for a "
            f"network: choose {_in_words(list_divisors(local))}"
        )
    shape = (count // (fsdp * tensor), fsdp, tensor)
    return jax.make_mesh(shape, (*ROW_AXES, TENSOR), axis_types=(AxisType.Auto,) * 3, devices=devices)


def count_row_devices(mesh: AnyMesh) -> int:
    """Over how many parts rows are split."""
    return mesh.shape[DATA] * mesh.shape[FSDP]


def replicated_sharding(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, P())


def device_sharding(mesh: Mesh) -> NamedSharding:
    """For [devices]: one value each."""
    return NamedSharding(mesh, P((*ROW_AXES, TENSOR)))


def row_sharding(mesh: Mesh) -> NamedSharding:
    """For [accumulation, b, …] leaves: b falls on the devices, accumulation on none."""
    return NamedSharding(mesh, P(None, ROW_AXES))


def split_batch(global_batch_size: int, *, per_device_batch_size: int, num_devices: int) -> tuple[int, int]:
    """(accumulation, rows b of a micro-batch over all devices): the fewest micro-batches with at most `per_device_batch_size`
    rows on each device.

    Raises ValueError where the global batch does not divide by the devices.
    """
    if global_batch_size % num_devices:
        raise ValueError(
            f"global_batch_size={global_batch_size} does not divide by {num_devices} devices: choose a multiple of {num_devices}"
        )
    each = global_batch_size // num_devices
    rows = max(n for n in list_divisors(each) if n <= per_device_batch_size)
    return each // rows, rows * num_devices


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Puts this process's rows of a global batch, [accumulation, b of this process, …], onto its devices."""
    return {name: jax.make_array_from_process_local_data(row_sharding(mesh), x) for name, x in batch.items()}


def list_divisors(count: int) -> list[int]:
    """From 1 up."""
    return [n for n in range(1, count + 1) if count % n == 0]


def _in_words(choices: list[int]) -> str:
    return " or ".join(filter(None, (", ".join(map(str, choices[:-1])), str(choices[-1]))))
