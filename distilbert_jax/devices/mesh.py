"""The mesh of devices, and how a global batch is divided over it.

Rows are divided over two axes: along `data` every device holds all parameters, along `fsdp` each device holds a part
of them (Rajbhandari et al., 2019). Along `tensor` devices work on the same rows and divide the attention heads, the
MLP and the vocabulary (Shoeybi et al., 2019).
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

DATA, FSDP, TENSOR = "data", "fsdp", "tensor"
ROW_AXES = (DATA, FSDP)  # the axes over which rows are divided
AnyMesh = Mesh | AbstractMesh  # for functions that read only the sizes of the axes


def make_mesh(*, fsdp: int = 1, tensor: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """Makes a mesh with the axes `data`, `fsdp` and `tensor`.

    Args:
        fsdp: the number of devices along the axis `fsdp`.
        tensor: the number of devices along the axis `tensor`.
        devices: the devices to use; if left out, all devices of all processes. The size of `data` is their number
            divided by `fsdp` × `tensor`.

    Raises:
        ValueError: if `fsdp` × `tensor` does not divide the number of devices, or `tensor` does not divide the number
            of devices of one process.
    """
    devices = jax.devices() if devices is None else devices
    count = len(devices)
    count_per_process = sum(device.process_index == devices[0].process_index for device in devices)
    if count % (fsdp * tensor):
        raise ValueError(
            f"fsdp × tensor is {fsdp * tensor}, but must divide the number of devices, {count}: choose values whose "
            f"product is {_format_choices(list_divisors(count))}"
        )
    # Devices along `tensor` exchange data in every layer, which a network between hosts would slow down too much.
    if count_per_process % tensor:
        raise ValueError(
            f"tensor is {tensor}, but must divide the number of devices of one process, {count_per_process}, because "
            f"it cannot span several processes: choose {_format_choices(list_divisors(count_per_process))}"
        )
    shape = (count // (fsdp * tensor), fsdp, tensor)
    return jax.make_mesh(shape, (*ROW_AXES, TENSOR), axis_types=(AxisType.Auto,) * 3, devices=devices)


def count_row_devices(mesh: AnyMesh) -> int:
    """Returns the number of parts into which the rows of a batch are divided."""
    return mesh.shape[DATA] * mesh.shape[FSDP]


def replicated_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array that every device holds completely."""
    return NamedSharding(mesh, P())


def device_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array [devices] that has one value for each device."""
    return NamedSharding(mesh, P((*ROW_AXES, TENSOR)))


def row_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of batch arrays [accumulation, b, …]: b is divided over the devices, accumulation is not."""
    return NamedSharding(mesh, P(None, ROW_AXES))


def split_batch(global_batch_size: int, *, per_device_batch_size: int, num_devices: int) -> tuple[int, int]:
    """Splits a global batch into the fewest micro-batches that respect `per_device_batch_size`.

    Args:
        global_batch_size: the number of rows of one optimizer update.
        per_device_batch_size: the largest number of rows that one device processes at once.
        num_devices: the number of devices over which rows are divided.

    Returns:
        (accumulation, b): the number of micro-batches, and the rows of one micro-batch over all devices.

    Raises:
        ValueError: if the global batch is not divisible by the number of devices.
    """
    if global_batch_size % num_devices:
        raise ValueError(
            f"global_batch_size={global_batch_size} is not divisible by {num_devices} devices: choose a multiple of "
            f"{num_devices}"
        )
    device_rows = global_batch_size // num_devices
    rows_at_once = max(n for n in list_divisors(device_rows) if n <= per_device_batch_size)
    return device_rows // rows_at_once, rows_at_once * num_devices


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Puts this process's rows of a global batch, [accumulation, b of this process, …], onto its devices."""
    return {name: jax.make_array_from_process_local_data(row_sharding(mesh), x) for name, x in batch.items()}


def list_divisors(count: int) -> list[int]:
    """Lists the divisors of a number in ascending order."""
    return [n for n in range(1, count + 1) if count % n == 0]


def _format_choices(choices: list[int]) -> str:
    """Formats numbers as in "1, 2 or 4"."""
    return " or ".join(filter(None, (", ".join(map(str, choices[:-1])), str(choices[-1]))))
