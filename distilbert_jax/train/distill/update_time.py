"""Estimates how long an update takes, before the first one has run."""

import dataclasses
import time

import jax

from distilbert_jax import log_keys
from distilbert_jax.devices.processes import broadcast_first
from distilbert_jax.runtime.slow_updates import SLOW_UPDATE_SECONDS
from distilbert_jax.train.distill.setup import DistillSetup

# Micro-batches are certainly faster than the sum of these two.
MAX_OVERHEAD_SECONDS = 0.05  # of a micro-batch, for everything that is not arithmetic
MIN_UTILIZATION = 0.01  # of the peak, for the arithmetic


def estimate_update_seconds(setup: DistillSetup, peak: float | None) -> float:
    """Estimates the time of an update from that of one micro-batch, which is measured only if updates may be slow.

    The measurement compiles a program of its own, so it is left out where an update cannot take longer than
    `SLOW_UPDATE_SECONDS`. An update of a single micro-batch is estimated by its arithmetic at the peak.

    Args:
        setup: the run.
        peak: the peak FLOP/s of all devices, or None if it is not known.

    Returns:
        The seconds, or 0 if an update is certainly not slow.
    """
    accumulation = setup.batches.layout.accumulation
    arithmetic_seconds = setup.flops[log_keys.MFU.name] / peak if peak else 0.0
    max_seconds = accumulation * MAX_OVERHEAD_SECONDS + arithmetic_seconds / MIN_UTILIZATION
    # Processes with different peaks have to measure together or not at all.
    if accumulation == 1 or not broadcast_first(int(max_seconds > SLOW_UPDATE_SECONDS)):
        return arithmetic_seconds
    layout = dataclasses.replace(setup.batches.layout, accumulation=1)
    rows = setup.put_batch(dataclasses.replace(setup.batches, layout=layout)[0])

    def compute_microbatch() -> None:
        """Computes the gradients of one micro-batch."""
        jax.block_until_ready(setup.compute_gradients(setup.state.params, setup.teachers, rows))

    compute_microbatch()  # compiles
    start = time.perf_counter()
    compute_microbatch()
    return accumulation * (time.perf_counter() - start)
