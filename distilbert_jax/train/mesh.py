"""Devices: the mesh, and how a global batch falls on it."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

DATA = "data"


def make_mesh() -> Mesh:
    """Every device of every process along one axis, `data`."""
    return jax.make_mesh((jax.device_count(),), (DATA,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, P())


def over_devices(mesh: Mesh) -> NamedSharding:
    """For [devices]: one value each."""
    return NamedSharding(mesh, P(DATA))


def over_rows(mesh: Mesh) -> NamedSharding:
    """For [accumulation, b, …] leaves: b falls on the devices, accumulation on none."""
    return NamedSharding(mesh, P(None, DATA))


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
    rows = max(n for n in range(1, min(each, rows_per_device) + 1) if each % n == 0)
    return each // rows, rows * devices


def place(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Puts this process's rows of a global batch, [accumulation, b of this process, …], onto its devices."""
    return {name: jax.make_array_from_process_local_data(over_rows(mesh), x) for name, x in batch.items()}
