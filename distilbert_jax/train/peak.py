"""How fast and how large the devices at hand are: what a run is measured against."""

import functools
import resource
import statistics
import sys
import time

import jax
import jax.numpy as jnp

PEAKS = {
    "TPU v4": {"bfloat16": 275e12, "float32": 275e12},
    "TPU v5 lite": {"bfloat16": 197e12, "float32": 197e12},
    "TPU v5": {"bfloat16": 459e12, "float32": 459e12},
    "TPU v6 lite": {"bfloat16": 918e12, "float32": 918e12},
    "B200": {"bfloat16": 2_250e12, "float32": 1_100e12},
    "H200": {"bfloat16": 989e12, "float32": 494e12},
    "H100 PCIe": {"bfloat16": 756e12, "float32": 378e12},
    "H100": {"bfloat16": 989e12, "float32": 494e12},
    "A100": {"bfloat16": 312e12, "float32": 156e12},
    "L4": {"bfloat16": 121e12, "float32": 60e12},
    "RTX 4090": {"bfloat16": 165e12, "float32": 83e12},
    "V100": {"float16": 125e12, "bfloat16": 15.7e12, "float32": 15.7e12},
    "T4": {"float16": 65e12, "bfloat16": 8.1e12, "float32": 8.1e12},
}
"""Vendors' figures, FLOP/s of one device, dense; the first name that is part of the device's counts. float32 as JAX
multiplies it unasked: in one pass of bfloat16 on TPUs, in TF32 on GPUs that have it. V100 and T4 have no bfloat16 and
compute it in float32. float16 is as fast as bfloat16 where it has no figure of its own.
"""

SIZE, REPEATS = 1_024, 9


def peak(dtype: str) -> float | None:
    """FLOP/s of all devices together: the vendor's, or measured on a CPU. None where the device is not known."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return _measured(dtype)
    known = (flops.get(dtype, flops["bfloat16"]) for name, flops in PEAKS.items() if name in device.device_kind)
    one = next(known, None)
    return one and one * jax.device_count()


@functools.cache
def _measured(dtype: str) -> float:
    """Of a product of 1,024 × 1,024 matrices, which uses every core whatever the number of devices; all processes are
    taken to be alike.
    """
    x = jnp.ones((SIZE, SIZE), dtype)
    multiply = jax.jit(lambda x, y: jnp.matmul(x, y, preferred_element_type=jnp.float32))
    seconds = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        jax.block_until_ready(multiply(x, x))
        seconds.append(time.perf_counter() - start)
    return jax.process_count() * 2 * SIZE**3 / statistics.median(seconds[1:])


def memory() -> int:
    """Bytes: the most that a device of this process has held, or on a CPU the process itself."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    if all(stats):
        return int(max(each["peak_bytes_in_use"] for each in stats))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1_024)
