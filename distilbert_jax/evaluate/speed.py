"""How large and how fast a model is, on the device at hand."""

import statistics
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from distilbert_jax.evaluate.words import Ask


def parameters(params: Any) -> int:
    """How many; a tied matrix counts once."""
    return sum(x.size for x in jax.tree.leaves(params))


def latencies(models: Sequence[Ask], *, repeats: int = 30) -> list[float]:
    """Median milliseconds for one text through encoder and masked-word head, batch 1. The models take turns, so that
    noise falls on all alike.
    """
    ids = np.ones(8, int)  # padded: the length makes no difference
    seconds: list[list[float]] = [[] for _ in models]
    for turn in range(repeats + 2):
        for asked, times in zip(models, seconds, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(asked(ids, 1))
            if turn >= 2:  # the first compiles
                times.append(time.perf_counter() - start)
    return [1_000 * statistics.median(times) for times in seconds]
