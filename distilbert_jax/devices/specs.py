"""Published figures of accelerators, for one device each: arithmetic, memory, and links to other devices."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceSpec:
    """The vendor's figures of one device.

    Attributes:
        flops: FLOP/s of dense matrix products by type. float32 is as JAX multiplies it by default: in one pass of
            bfloat16 on TPUs, in TF32 on GPUs that have it. V100 and T4 have no bfloat16 and compute it in float32.
            float16 is as fast as bfloat16 if it has no figure of its own.
        memory: bytes.
        bandwidth: bytes/s between the device and its memory.
        link: bytes/s that can be sent to other devices, over all links together.
        watts: power of the board, or None if the vendor does not publish it.
    """

    flops: Mapping[str, float]
    memory: float
    bandwidth: float
    link: float
    watts: float | None = None

    def peak_flops(self, dtype: str) -> float:
        """Returns the FLOP/s for matrix products of a type."""
        return self.flops.get(dtype, self.flops["bfloat16"])


def _tpu(flops: float, **more: float) -> DeviceSpec:
    """Makes the spec of a TPU, which by default multiplies float32 in one pass of bfloat16."""
    return DeviceSpec(flops={"bfloat16": flops, "float32": flops}, **more)


def _gpu(flops: float, float32: float, **more: float) -> DeviceSpec:
    """Makes the spec of a GPU, given its FLOP/s in bfloat16 and in float32."""
    return DeviceSpec(flops={"bfloat16": flops, "float32": float32}, **more)


def _without_bfloat16(float16: float, float32: float, **more: float) -> DeviceSpec:
    """Makes the spec of a GPU that has float16 but no bfloat16."""
    return DeviceSpec(flops={"float16": float16, "bfloat16": float32, "float32": float32}, **more)


DEVICE_SPECS = {
    "TPU v4": _tpu(275e12, memory=32e9, bandwidth=1_228e9, link=300e9),
    "TPU v5 lite": _tpu(197e12, memory=16e9, bandwidth=819e9, link=200e9),
    "TPU v5": _tpu(459e12, memory=95e9, bandwidth=2_765e9, link=600e9),
    "TPU v6 lite": _tpu(918e12, memory=32e9, bandwidth=1_640e9, link=448e9),
    "B200": _gpu(2_250e12, 1_100e12, memory=180e9, bandwidth=8_000e9, link=900e9, watts=1_000.0),
    "H200": _gpu(989e12, 494e12, memory=141e9, bandwidth=4_800e9, link=450e9, watts=700.0),
    "H100 PCIe": _gpu(756e12, 378e12, memory=80e9, bandwidth=2_000e9, link=64e9, watts=350.0),
    "H100": _gpu(989e12, 494e12, memory=80e9, bandwidth=3_350e9, link=450e9, watts=700.0),
    "A100": _gpu(312e12, 156e12, memory=80e9, bandwidth=2_039e9, link=300e9, watts=400.0),
    "L4": _gpu(121e12, 60e12, memory=24e9, bandwidth=300e9, link=32e9, watts=72.0),
    "RTX 4090": _gpu(165e12, 83e12, memory=24e9, bandwidth=1_008e9, link=32e9, watts=450.0),
    "V100": _without_bfloat16(125e12, 15.7e12, memory=32e9, bandwidth=900e9, link=150e9, watts=300.0),
    "T4": _without_bfloat16(65e12, 8.1e12, memory=16e9, bandwidth=320e9, link=16e9, watts=70.0),
}


def find_device(kind: str) -> DeviceSpec | None:
    """Returns the spec of a device by JAX's name for its kind, or None if it is not known.

    JAX's names are longer than ours, such as "NVIDIA H100 80GB HBM3". The first name in `DEVICE_SPECS` that is part of
    it counts.
    """
    return next((spec for name, spec in DEVICE_SPECS.items() if name in kind), None)
