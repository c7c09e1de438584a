"""Records what the devices do in some steps of a run, for TensorBoard, XProf or Perfetto."""

import pathlib
import shlex
from types import TracebackType
from typing import Any

import jax

from distilbert_jax.io.console import console


class Profiler:
    """Records a trace of the given steps. If the run ends among them, the steps before the end are kept.

    Args:
        steps: the steps to record. An empty range records nothing.
        run: the run folder. The trace is written to its subfolder `profile`.
    """

    def __init__(self, steps: range, run: pathlib.Path):
        self._steps, self._folder = steps, run / "profile"
        self._active = False

    def before(self, step: int) -> None:
        """Starts the trace if `step` is the first step to record. Call it before the step is dispatched."""
        if step in self._steps and not self._active:
            jax.profiler.start_trace(str(self._folder))
            self._active = True

    def after(self, step: int, results: Any) -> None:
        """Ends the trace if `step` is the last step to record. Call it after the step is dispatched.

        Args:
            step: the step that was dispatched.
            results: its outputs. They are waited for, because the trace holds only work that has been done.
        """
        if self._active and step + 1 not in self._steps:
            jax.block_until_ready(results)
            self._end()

    def _end(self) -> None:
        """Ends the trace, and prints how to view it."""
        jax.profiler.stop_trace()
        self._active = False
        command = shlex.join(["tensorboard", "--logdir", str(self._folder)])
        console.print(
            f"The trace is in {self._folder}. View it with {command}, or at ui.perfetto.dev.",
            markup=False,
        )

    def __enter__(self) -> "Profiler":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._active:
            self._end()
