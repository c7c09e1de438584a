"""The devices of a plan: those at hand, a TPU topology that its compiler knows, or GPUs of which only figures are."""

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

TPUS = ("v4", "v5e", "v5p", "v6e")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """What is planned for."""

    name: str
    devices: Sequence[Any]  # JAX's, empty where nothing can be compiled for them
    count: int
    spec: DeviceSpec | None  # what its vendor says; None for a CPU, which is measured

    @property
    def compiles(self) -> bool:
        return bool(self.devices)

    @property
    def platform(self) -> str:
        return self.devices[0].platform if self.devices else "gpu"

    @property
    def memory_bytes(self) -> float:
        """Bytes of each device."""
        return self.spec.memory if self.spec else available_bytes()

    def peak_flops(self, dtype: str) -> float:
        """FLOP/s of each device."""
        return self.spec.peak_flops(dtype) if self.spec else (peak.peak_flops(dtype) or 0.0) / self.count

    def make_mesh(self, *, fsdp: int, tensor: int) -> AnyMesh:
        if self.devices:
            return make_mesh(fsdp=fsdp, tensor=tensor, devices=self.devices)
        if fsdp * tensor > 1:
            raise ValueError(
                "fsdp and tensor are planned for the devices at hand or with --topology, not with --device"
            )
        return AbstractMesh((self.count, 1, 1), (*ROW_AXES, TENSOR), axis_types=(AxisType.Auto,) * 3)


def local_target() -> Target:
    found = jax.devices()
    kind = found[0].device_kind
    return Target(name=f"{len(found)} × {kind}", devices=found, count=len(found), spec=find_device(kind))


def gpu_target(name: str, count: int) -> Target:
    """By their figures. ValueError for a name that has none."""
    known = [each for each in DEVICE_SPECS if "TPU" not in each]
    if name not in known:
        raise ValueError(f"--device {name}: choose one of {', '.join(known)}")
    return Target(name=f"{count} × {name}", devices=(), count=count, spec=DEVICE_SPECS[name])


def tpu_target(topology: str) -> Target:
    """Of a name such as v5e:4x4, from the compiler for TPUs, which needs none. ValueError where there is no such
    topology, or no compiler.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise ValueError("--topology needs the compiler for TPUs: pip install 'distilbert_jax[tpu]'")
    jax.config.update("jax_platforms", "cpu")  # libtpu looks for its TPUs otherwise
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    from jax.experimental import topologies

    try:
        found: Any = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    except Exception as error:  # of whatever kind: libtpu says what it has to say in many
        raise ValueError(
            f"--topology {topology}: {str(error).splitlines()[0]}. Write one of {', '.join(TPUS)} and its shape, such "
            "as v5e:4x4"
        ) from None
    kind = found[0].device_kind
    name = f"{len(found)} × {kind} ({topology})"
    return Target(name=name, devices=found, count=len(found), spec=find_device(kind))
