"""How many rows fit on a device: asked of the compiled step, before it runs."""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from distilbert_jax.devices.mesh import count_row_devices, list_divisors, row_sharding, split_batch
from distilbert_jax.io.console import console
from distilbert_jax.types import PackedRows

USABLE_FRACTION = 0.92  # of a device's memory that a step may fill; the rest is the runtime's, and lost between blocks
MAX_PROBE_ROWS = 8  # rows, beside one: the line through both says where to look


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepMemory:
    """A jitted train step and what it is called with, but for the rows."""

    step: Any
    state: Any
    teachers: Any
    global_batch_size: int
    length: int
    mesh: Mesh

    def compiled(self, rows: int) -> jax.stages.Compiled:
        """The step with at most so many rows at once on each device."""
        places = split_batch(
            self.global_batch_size, per_device_batch_size=rows, num_devices=count_row_devices(self.mesh)
        )
        shape: Any = lambda *more: jax.ShapeDtypeStruct((*places, *more), jnp.int32, sharding=row_sharding(self.mesh))
        batch = PackedRows(row_ids=shape(), epochs=shape(), tokens=shape(self.length), segment_ids=shape(self.length))
        return self.step.lower(self.state, self.teachers, batch).compile()

    def bytes_needed(self, rows: int) -> int:
        """Bytes on each device, with at most so many rows at once. Compiles the step."""
        return program_bytes(self.compiled(rows))

    def max_batch_size(self) -> int:
        """The most rows at once that fit on each device of every process. Says what they need."""
        limit, need = available_bytes(), functools.cache(self.bytes_needed)
        rows = find_max_rows(need, each=self.global_batch_size // count_row_devices(self.mesh), limit=limit)
        console.print(f"{rows} rows at once on each device: {_gigabytes(need(rows))} of {_gigabytes(limit)}")
        return rows

    @contextlib.contextmanager
    def explain_out_of_memory(self, rows: int) -> Iterator[None]:
        """Turns a device's out of memory into a ValueError that names what would fit."""
        try:
            yield
        except jax.errors.JaxRuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise ValueError(
                f"out of memory with per_device_batch_size={rows}: an update needs {_gigabytes(self.bytes_needed(rows))} on each "
                f"device, and {_gigabytes(available_bytes())} are there. per_device_batch_size={self.max_batch_size()} fits; remat=layers "
                "makes room for more"
            ) from error


def is_out_of_memory(error: jax.errors.JaxRuntimeError) -> bool:
    """Whether that is what a device, or the compiler for one, complains of."""
    return "RESOURCE_EXHAUSTED" in str(error)


def program_bytes(compiled: jax.stages.Compiled) -> int:
    """On each device: what comes in, what goes out and is not written over that, and what is held in between."""
    sizes: Any = compiled.memory_analysis()
    kept = sizes.argument_size_in_bytes + sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    return int(kept + sizes.temp_size_in_bytes + sizes.generated_code_size_in_bytes)


def available_bytes() -> int:
    """Bytes that a step may fill on each device; on a CPU its devices share the machine's memory."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        limit = int(USABLE_FRACTION * stats["bytes_limit"])
    else:
        limit = int(
            USABLE_FRACTION * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / jax.local_device_count()
        )
    return int(multihost_utils.process_allgather(np.array(limit)).min()) if jax.process_count() > 1 else limit


def find_max_rows(need: Callable[[int], int], *, each: int, limit: int) -> int:
    """The largest divisor of `each` with `need(rows)` bytes within the `limit`. What is needed grows with the rows,
    nearly in a straight line, so few are asked. ValueError, with what else helps, where not even one row fits.
    """
    choices = list_divisors(each)
    if need(1) > limit:
        raise ValueError(
            f"one row at a time needs {_gigabytes(need(1))} on each device, and {_gigabytes(limit)} are there: take "
            "shorter rows (corpus.sequence_length), remat=layers, or a smaller model"
        )
    probe = max(n for n in choices if n <= MAX_PROBE_ROWS)
    a_row = (need(probe) - need(1)) / max(1, probe - 1)
    at = sum(need(1) + (n - 1) * a_row <= limit for n in choices[1:])
    while need(choices[at]) > limit:
        at -= 1
    while at + 1 < len(choices) and need(choices[at + 1]) <= limit:
        at += 1
    return choices[at]


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
