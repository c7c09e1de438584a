"""The peak arithmetic of the devices in use, and the peak of the memory that was held on them."""

import functools
import statistics
import time

import jax
import jax.numpy as jnp

from distilbert_jax.devices import host_memory, specs

MATRIX_SIZE = 1_024  # rows and columns of the matrices that are multiplied to measure a CPU
NUM_MEASUREMENTS = 9


def peak_flops(dtype: str) -> float | None:
    """Returns the FLOP/s of all devices together: the vendor's figure, or a measurement on a CPU.

    Returns None if the device is not in `specs.DEVICE_SPECS`.
    """
    device = jax.devices()[0]
    if device.platform == "cpu":
        return _measure_cpu_flops(dtype)
    spec = specs.find_device(device.device_kind)
    return spec.peak_flops(dtype) * jax.device_count() if spec else None


@functools.cache
def _measure_cpu_flops(dtype: str) -> float:
    """Measures the FLOP/s of a matrix product on the CPUs of all processes.

    One product uses every core, however many JAX devices the CPU is divided into. All processes are assumed to run on
    equal machines.
    """
    x = jnp.ones((MATRIX_SIZE, MATRIX_SIZE), dtype)
    multiply = jax.jit(lambda x, y: jnp.matmul(x, y, preferred_element_type=jnp.float32))
    seconds = []
    for _ in range(NUM_MEASUREMENTS + 1):
        start = time.perf_counter()
        jax.block_until_ready(multiply(x, x))
        seconds.append(time.perf_counter() - start)
    # The first call compiles, so its time does not count.
    return jax.process_count() * 2 * MATRIX_SIZE**3 / statistics.median(seconds[1:])


def peak_memory_bytes() -> int:
    """Returns the largest amount of memory that one device of this process has held, in bytes.

    On a CPU it is the memory of the process itself.
    """
    stats = [device.memory_stats() for device in jax.local_devices()]
    if all(stats):
        return int(max(device_stats["peak_bytes_in_use"] for device_stats in stats))
    return host_memory.peak_bytes()
