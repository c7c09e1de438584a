"""Finds how many rows fit in a device's memory, by compiling the training step before it runs."""

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

USABLE_MEMORY_FRACTION = 0.92  # what a step may fill; the rest is for the runtime and for gaps between blocks
MAX_PROBE_ROWS = 8  # the memory of this many rows and of one row gives the straight line that predicts all others


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepMemory:
    """The memory that a jitted training step needs, as a function of its rows.

    Attributes:
        step: the jitted training step.
        state: its first argument, or the shapes and shardings of that.
        teachers: its second argument, likewise.
        global_batch_size: rows of a step, over all devices and micro-batches.
        length: tokens of a row.
        mesh: the devices.
    """

    step: Any
    state: Any
    teachers: Any
    global_batch_size: int
    length: int
    mesh: Mesh

    def compile_step(self, rows: int) -> jax.stages.Compiled:
        """Returns the compiled step for micro-batches with at most `rows` rows on each device."""
        leading = split_batch(
            self.global_batch_size, per_device_batch_size=rows, num_devices=count_row_devices(self.mesh)
        )

        def make_shape(*trailing: int) -> Any:
            return jax.ShapeDtypeStruct((*leading, *trailing), jnp.int32, sharding=row_sharding(self.mesh))

        batch = PackedRows(
            row_ids=make_shape(),
            epochs=make_shape(),
            tokens=make_shape(self.length),
            segment_ids=make_shape(self.length),
        )
        return self.step.lower(self.state, self.teachers, batch).compile()

    def bytes_needed(self, rows: int) -> int:
        """Returns the bytes that a step needs on each device with at most `rows` rows there. Compiles the step."""
        return compute_program_bytes(self.compile_step(rows))

    def max_batch_size(self) -> int:
        """Returns the most rows per micro-batch that fit on each device of every process, and prints what they need.

        Raises:
            ValueError: not even one row fits.
        """
        available, bytes_needed = available_bytes(), functools.cache(self.bytes_needed)
        device_rows = self.global_batch_size // count_row_devices(self.mesh)
        rows = find_max_rows(bytes_needed, device_rows=device_rows, limit=available)
        console.print(
            f"per_device_batch_size=auto chose {rows}: a step needs {_format_gigabytes(bytes_needed(rows))} of the "
            f"{_format_gigabytes(available)} that can be used on each device."
        )
        return rows

    @contextlib.contextmanager
    def explain_out_of_memory(self, rows: int) -> Iterator[None]:
        """Turns the error of a device that runs out of memory into a ValueError that says what would fit."""
        try:
            yield
        except jax.errors.JaxRuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise ValueError(
                f"The devices are out of memory with per_device_batch_size={rows}: a step needs "
                f"{_format_gigabytes(self.bytes_needed(rows))} on each device, but only "
                f"{_format_gigabytes(available_bytes())} can be used. Set "
                f"per_device_batch_size={self.max_batch_size()}, which fits, or remat=layers, which needs less memory "
                "for each row."
            ) from error


def is_out_of_memory(error: jax.errors.JaxRuntimeError) -> bool:
    """Returns whether the error says that a device, or the compiler for one, ran out of memory."""
    return "RESOURCE_EXHAUSTED" in str(error)


def compute_program_bytes(compiled: jax.stages.Compiled) -> int:
    """Returns the bytes that a compiled program needs on each device: arguments, results, temporaries and code.

    A result that is written over a donated argument counts once.
    """
    sizes: Any = compiled.memory_analysis()
    arguments_and_results = sizes.argument_size_in_bytes + sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    return int(arguments_and_results + sizes.temp_size_in_bytes + sizes.generated_code_size_in_bytes)


def available_bytes() -> int:
    """Returns the bytes that a step may fill on each device: the least of all processes.

    The devices of a CPU share the memory of the machine.
    """
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        limit = int(USABLE_MEMORY_FRACTION * stats["bytes_limit"])
    else:
        limit = int(
            USABLE_MEMORY_FRACTION * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / jax.local_device_count()
        )
    return int(multihost_utils.process_allgather(np.array(limit)).min()) if jax.process_count() > 1 else limit


def find_max_rows(bytes_needed: Callable[[int], int], *, device_rows: int, limit: int) -> int:
    """Returns the largest number of rows whose step fits in the memory.

    Args:
        bytes_needed: the bytes of a step with a number of rows. Every call compiles, so it is called for few numbers.
        device_rows: rows of the global batch on each device. Only its divisors are tried.
        limit: the bytes that a step may fill.

    Raises:
        ValueError: not even one row fits.
    """
    choices = list_divisors(device_rows)
    if bytes_needed(1) > limit:
        raise ValueError(
            f"One row at a time needs {_format_gigabytes(bytes_needed(1))} on each device, but only "
            f"{_format_gigabytes(limit)} can be used. Set remat=layers, choose shorter rows (corpus.sequence_length), "
            "or choose a smaller model."
        )
    # The memory grows with the rows in nearly a straight line, so two points on it give a good first guess.
    probe = max(n for n in choices if n <= MAX_PROBE_ROWS)
    bytes_per_row = (bytes_needed(probe) - bytes_needed(1)) / max(1, probe - 1)
    index = sum(bytes_needed(1) + (n - 1) * bytes_per_row <= limit for n in choices[1:])
    # The line is not exact, so the guess is corrected by what the compiled step says.
    while bytes_needed(choices[index]) > limit:
        index -= 1
    while index + 1 < len(choices) and bytes_needed(choices[index + 1]) <= limit:
        index += 1
    return choices[index]


def _format_gigabytes(count: int) -> str:
    """Returns a number of bytes in GB."""
    return f"{count / 1e9:.2f} GB"
