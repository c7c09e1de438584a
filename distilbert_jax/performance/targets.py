"""The devices that a run can be planned for.

There are three kinds: the devices of this machine; a TPU topology, for which the TPU compiler works without any TPU;
and GPUs of which only the published figures are known.
"""

import dataclasses
import importlib.util
import os
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AbstractMesh, AxisType

from distilbert_jax.devices import peak
from distilbert_jax.devices.mesh import ROW_AXES, TENSOR, AnyMesh, make_mesh
from distilbert_jax.devices.specs import DEVICE_SPECS, DeviceSpec, find_device
from distilbert_jax.train.memory_fit import available_bytes

TPU_GENERATIONS = ("v4", "v5e", "v5p", "v6e")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """The devices that a run is planned for.

    Attributes:
        name: their number and kind, for the screen.
        devices: JAX's devices. Empty if programs cannot be compiled for them.
        count: how many devices there are.
        spec: the published figures of one device. None for a CPU, which is measured.
    """

    name: str
    devices: Sequence[Any]
    count: int
    spec: DeviceSpec | None

    @property
    def can_compile(self) -> bool:
        """Whether programs can be compiled for these devices."""
        return bool(self.devices)

    @property
    def platform(self) -> str:
        """JAX's name of the platform, such as "gpu"."""
        return self.devices[0].platform if self.devices else "gpu"

    @property
    def memory_bytes(self) -> float:
        """The memory of each device, in bytes."""
        return self.spec.memory if self.spec else available_bytes()

    def peak_flops(self, dtype: str) -> float:
        """Returns the FLOP/s that each device reaches at most in `dtype`."""
        return self.spec.peak_flops(dtype) if self.spec else (peak.peak_flops(dtype) or 0.0) / self.count

    def make_mesh(self, *, fsdp: int, tensor: int) -> AnyMesh:
        """Returns the mesh of these devices.

        Raises:
            ValueError: `fsdp` or `tensor` is not possible on these devices.
        """
        if self.devices:
            return make_mesh(fsdp=fsdp, tensor=tensor, devices=self.devices)
        if fsdp * tensor > 1:
            raise ValueError(
                f"fsdp={fsdp} and tensor={tensor} cannot be planned with --device, which compiles nothing. Plan for "
                "the devices of this machine, or for TPUs with --topology."
            )
        return AbstractMesh((self.count, 1, 1), (*ROW_AXES, TENSOR), axis_types=(AxisType.Auto,) * 3)


def local_target() -> Target:
    """Returns the devices of this machine, and of the other processes of a distributed run."""
    devices = jax.devices()
    kind = devices[0].device_kind
    return Target(name=f"{len(devices)} × {kind}", devices=devices, count=len(devices), spec=find_device(kind))


def gpu_target(name: str, count: int) -> Target:
    """Returns GPUs that are planned for from their published figures.

    Args:
        name: the name of the GPU in `DEVICE_SPECS`, such as "H200".
        count: how many there are.

    Raises:
        ValueError: there are no figures for this name.
    """
    gpu_names = [known for known in DEVICE_SPECS if "TPU" not in known]
    if name not in gpu_names:
        raise ValueError(f"--device {name} is not a known GPU. Choose one of {', '.join(gpu_names)}.")
    return Target(name=f"{count} × {name}", devices=(), count=count, spec=DEVICE_SPECS[name])


def tpu_target(topology: str) -> Target:
    """Returns the TPUs of a topology. Its compiler needs the extra `tpu` to be installed, but no TPU.

    Args:
        topology: the generation and the shape, such as "v5e:4x4".

    Raises:
        ValueError: there is no such topology, or the compiler is not installed.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise ValueError(f"--topology {topology} needs the TPU compiler. Install it: pip install 'distilbert_jax[tpu]'")
    # Otherwise libtpu searches for TPUs, on this machine and on the network.
    jax.config.update("jax_platforms", "cpu")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    from jax.experimental import topologies

    try:
        devices: Any = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    except Exception as error:  # libtpu reports a wrong name by exceptions of many kinds
        raise ValueError(
            f"--topology {topology}: {str(error).splitlines()[0]}. Write one of {', '.join(TPU_GENERATIONS)} and its "
            "shape, such as v5e:4x4."
        ) from None
    kind = devices[0].device_kind
    name = f"{len(devices)} × {kind} ({topology})"
    return Target(name=name, devices=devices, count=len(devices), spec=find_device(kind))
