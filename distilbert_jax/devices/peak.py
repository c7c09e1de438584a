"""How fast and how large the devices at hand are: what a run is measured against."""

import functools
import statistics
import time

import jax
import jax.numpy as jnp

from distilbert_jax.devices import host_memory, specs

MATRIX_SIZE, REPEATS = 1_024, 9


def peak_flops(dtype: str) -> float | None:
    """FLOP/s of all devices together: the vendor's, or measured on a CPU. None where the device is not known."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return _measured(dtype)
    known = specs.find_device(device.device_kind)
    return known.peak_flops(dtype) * jax.device_count() if known else None


@functools.cache
def _measured(dtype: str) -> float:
    """Of a product of 1,024 × 1,024 matrices, which uses every core whatever the number of devices; all processes are
    taken to be alike.
    """
    x = jnp.ones((MATRIX_SIZE, MATRIX_SIZE), dtype)
    multiply = jax.jit(lambda x, y: jnp.matmul(x, y, preferred_element_type=jnp.float32))
    seconds = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        jax.block_until_ready(multiply(x, x))
        seconds.append(time.perf_counter() - start)
    return jax.process_count() * 2 * MATRIX_SIZE**3 / statistics.median(seconds[1:])


def peak_memory_bytes() -> int:
    """Bytes: the most that a device of this process has held, or on a CPU the process itself."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    if all(stats):
        return int(max(each["peak_bytes_in_use"] for each in stats))
    return host_memory.peak_bytes()
