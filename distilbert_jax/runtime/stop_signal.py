"""Ends a run after the current step on Ctrl-C or SIGTERM, so that it can be continued later.

The first signal asks the training loop to save and end. A second one ends the process at once.
"""

import pathlib
import signal
from collections.abc import Callable
from types import FrameType, TracebackType

import jax
import numpy as np
from jax.sharding import Mesh

from distilbert_jax.devices.mesh import device_sharding, replicated_sharding


class StopSignal:
    """Remembers a signal inside `with StopSignal(mesh) as stop`, instead of ending the process.

    Attributes:
        signal: the signal that this process received, or None.
    """

    def __init__(self, mesh: Mesh) -> None:
        self.signal: signal.Signals | None = None
        self._mesh = mesh
        self._max_signal = jax.jit(lambda x: x.max(), out_shardings=replicated_sharding(mesh))
        self._previous_handlers: dict[signal.Signals, object] = {}

    def poll(self) -> Callable[[], signal.Signals | None]:
        """Returns a function that tells which signal, if any, asks the run to end after the coming step.

        Call `poll` before the step is dispatched, and the function after that. All processes get the same answer, no
        matter which of them received the signal. They exchange it on the devices before the step, so that reading it
        does not wait for the step itself.
        """
        if jax.process_count() == 1:
            return lambda: self.signal
        local_signal = np.full(jax.local_device_count(), self.signal or 0, np.int32)
        agreed = self._max_signal(jax.make_array_from_process_local_data(device_sharding(self._mesh), local_signal))
        return lambda: signal.Signals(int(agreed)) if int(agreed) else None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Remembers the signal, and lets the next one end the process."""
        self.signal = signal.Signals(number)
        for handled in self._previous_handlers:
            # The default action ends the process at once. An exception would wait for a save that is in progress.
            signal.signal(handled, signal.SIG_DFL)

    def _restore(self) -> None:
        """Restores the handlers that were set before the `with` block."""
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous_handlers = {}

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous_handlers[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()


class RunStopped(KeyboardInterrupt):
    """Raised when a run has ended early because of a signal, after it saved everything.

    Attributes:
        status: the exit status of the command: 128 plus the number of the signal, as shells report it.
    """

    def __init__(self, by: signal.Signals, *, step: int, folder: pathlib.Path):
        super().__init__(
            f"ended by {by.name} after step {step:,}; everything is saved in {folder}, and the same command continues "
            "from there"
        )
        self.status = 128 + by
