"""The peak arithmetic of the devices in use, and the peak of the memory that was held on them."""

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp

from distilbert_jax.devices import host_memory, specs

MATRIX_SIZES = (512, 1_024)
"""Rows and columns of the matrices that are multiplied to measure a CPU. Small products are so short that some of them
meet no other program, even where many are running. Large ones are more efficient on many cores.
"""

MEASUREMENT_SECONDS = 0.2  # for each size

_cpu_flops: dict[str, float] = {}
"""The most FLOP/s that the CPUs have reached so far, by type."""


def peak_flops(dtype: str, *, remeasure: bool = False) -> float | None:
    """Returns the FLOP/s of all devices together: the vendor's figure, or the best measurement on a CPU.

    Returns None if the device is not in `specs.DEVICE_SPECS`.

    Args:
        dtype: the type of the matrices.
        remeasure: whether to measure a CPU once more, because its cores may have been busy at the first time.
    """
    device = jax.devices()[0]
    if device.platform == "cpu":
        if remeasure or dtype not in _cpu_flops:
            _cpu_flops[dtype] = max(_cpu_flops.get(dtype, 0.0), _measure_cpu_flops(dtype))
        return _cpu_flops[dtype]
    spec = specs.find_device(device.device_kind)
    return spec.peak_flops(dtype) * jax.device_count() if spec else None


def format_peak_share(share: float) -> str:
    """Returns a share of the peak as text. More than 100 % can only mean that the measured peak is too low."""
    return f"{share:.0%} of peak" + (" (measured on busy cores, so too low)" if share > 1 else "")


@functools.cache
def _compile_product() -> Any:
    """Returns the jitted matrix product that is timed."""
    return jax.jit(lambda x, y: jnp.matmul(x, y, preferred_element_type=jnp.float32))


def _measure_cpu_flops(dtype: str) -> float:
    """Measures the FLOP/s of a matrix product on the CPUs of all processes.

    One product uses every core, however many JAX devices the CPU is divided into. All processes are assumed to run on
    equal machines. Other programs can only slow a product down, so the fastest one counts.
    """
    multiply, fastest = _compile_product(), 0.0
    for size in MATRIX_SIZES:
        x = jnp.ones((size, size), dtype)
        jax.block_until_ready(multiply(x, x))  # compiles
        end = time.perf_counter() + MEASUREMENT_SECONDS
        while (start := time.perf_counter()) < end:
            jax.block_until_ready(multiply(x, x))
            fastest = max(fastest, 2 * size**3 / (time.perf_counter() - start))
    return jax.process_count() * fastest


def peak_memory_bytes() -> int:
    """Returns the largest amount of memory that one device of this process has held, in bytes.

    On a CPU it is the memory of the process itself.
    """
    stats = [device.memory_stats() for device in jax.local_devices()]
    if all(stats):
        return int(max(device_stats["peak_bytes_in_use"] for device_stats in stats))
    return host_memory.peak_bytes()
