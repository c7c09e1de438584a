"""How large and how fast a model is, on the device at hand."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from distilbert_jax.hub.load import PretrainedModel
from distilbert_jax.types import Batch


def count_parameters(params: Any) -> int:
    """How many; a tied matrix counts once."""
    return sum(x.size for x in jax.tree.leaves(params))


def make_single_text_call(model: PretrainedModel, *, length: int = 128) -> Callable[[], Any]:
    """A call that puts one text of `length` tokens through encoder and head."""
    batch = Batch.from_tokens(jnp.ones((1, length), jnp.int32))
    apply: Any = model.module.apply
    scores = jax.jit(lambda params, batch: apply({"params": params}, batch).logits)
    params = jax.device_put(model.params)
    return lambda: scores(params, batch)


def measure_latencies(calls: Sequence[Callable[[], Any]], *, repeats: int = 30) -> list[float]:
    """Median milliseconds of each call. They take turns, so that noise falls on all alike."""
    seconds: list[list[float]] = [[] for _ in calls]
    for turn in range(repeats + 2):
        for call, times in zip(calls, seconds, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(call())
            if turn >= 2:  # the first compiles
                times.append(time.perf_counter() - start)
    return [1_000 * statistics.median(times) for times in seconds]
