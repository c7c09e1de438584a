"""Measures how large and how fast a model is, on the devices of this machine."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from distilbert_jax.hub.load import PretrainedModel
from distilbert_jax.types import Batch

WARMUP_CALLS = 2  # calls that are not timed, because the first one compiles


def count_parameters(params: Any) -> int:
    """Returns the number of parameters in a tree. A tied matrix is in the tree once, so it counts once."""
    return sum(x.size for x in jax.tree.leaves(params))


def make_single_text_call(model: PretrainedModel, *, length: int = 128) -> Callable[[], Any]:
    """Returns a function without arguments that computes the logits of one text of `length` tokens."""
    batch = Batch.from_tokens(jnp.ones((1, length), jnp.int32))
    apply: Any = model.module.apply
    compute_logits = jax.jit(lambda params, batch: apply({"params": params}, batch).logits)
    params = jax.device_put(model.params)

    def call() -> Any:
        return compute_logits(params, batch)

    return call


def measure_latencies(calls: Sequence[Callable[[], Any]], *, repeats: int = 30) -> list[float]:
    """Returns the median time of each call, in milliseconds.

    The calls take turns, so that changes in the load of the machine affect all of them equally.

    Args:
        calls: functions that return JAX arrays, whose computation is waited for.
        repeats: how often each call is timed.
    """
    seconds: list[list[float]] = [[] for _ in calls]
    for turn in range(repeats + WARMUP_CALLS):
        for call, times in zip(calls, seconds, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(call())
            if turn >= WARMUP_CALLS:
                times.append(time.perf_counter() - start)
    return [1_000 * statistics.median(times) for times in seconds]
