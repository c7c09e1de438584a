"""A trace of what the devices do in some steps of a run, for TensorBoard, XProf or Perfetto."""

import pathlib
from types import TracebackType
from typing import Any

import jax

from distilbert_jax.io.console import console


class Profiler:
    """Traces the `steps` of a run that come by, into its folder. A run that ends among them leaves those it had."""

    def __init__(self, steps: range, run: pathlib.Path):
        self._steps, self._folder = steps, run / "profile"
        self._on = False

    def before(self, step: int) -> None:
        if step in self._steps and not self._on:
            jax.profiler.start_trace(str(self._folder))
            self._on = True

    def after(self, step: int, results: Any) -> None:
        """The last of them is waited for: what is dispatched only is not in the trace yet."""
        if self._on and step + 1 not in self._steps:
            jax.block_until_ready(results)
            self._end()

    def _end(self) -> None:
        jax.profiler.stop_trace()
        self._on = False
        console.print(f"a trace is in {self._folder}: tensorboard --logdir {self._folder}, or ui.perfetto.dev")

    def __enter__(self) -> "Profiler":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._on:
            self._end()
