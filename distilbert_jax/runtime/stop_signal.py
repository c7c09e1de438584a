"""Ends a run after the current step on Ctrl-C or SIGTERM, so that it can be continued later.

The first signal asks the training loop to save and end. A second one ends the process at once. While an update runs
that would take too long to wait for, the first one does so as well.
"""

import os
import pathlib
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

import jax
import numpy as np
from jax.sharding import Mesh

from distilbert_jax.devices.mesh import device_sharding, replicated_sharding
from distilbert_jax.devices.processes import ProcessGroup
from distilbert_jax.io.console import console

HANDLED_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignal:
    """Remembers a signal inside `with StopSignal(mesh, processes) as stop`, instead of ending the process.

    Args:
        mesh: the devices of the run.
        processes: the processes of the run, which end together; None if there is only this one.

    Attributes:
        signal: the signal that this process received, or None.
    """

    def __init__(self, mesh: Mesh, processes: ProcessGroup | None = None) -> None:
        self.signal: signal.Signals | None = None
        self._mesh = mesh
        self._processes = processes
        # What a signal that ends the process at once prints; None while signals are only remembered.
        self._last_words: str | None = None
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

    def end_at_once(self, last_words: str) -> None:
        """Lets the first signal end the process at once from now on, even while JAX waits for a device.

        Args:
            last_words: what is printed then, after "ended by SIGTERM".
        """
        self._last_words = last_words
        if self.signal is not None:
            self._end(self.signal)

    def only_remember(self) -> None:
        """Lets the first signal only be remembered again."""
        self._last_words = None

    def _watch(self, receiver: socket.socket) -> None:
        """Ends the process on a signal if it has to end at once. Runs in a thread of its own.

        The main thread cannot do it: Python calls `_handle` there, but only after JAX has returned.
        """
        with receiver:
            while number := receiver.recv(1):
                if self._last_words is not None and number[0] in HANDLED_SIGNALS:
                    self._end(signal.Signals(number[0]))

    def _end(self, by: signal.Signals) -> None:
        """Ends all processes of the run without waiting for anything."""
        message, status = f"ended by {by.name} {self._last_words}", 128 + by
        if self._processes:
            self._processes.announce_end(message, status=status)
        console.show_cursor()
        print(message, file=sys.stderr, flush=True)  # noqa: T201
        os._exit(status)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Remembers the signal, and lets the next one end the process."""
        self.signal = signal.Signals(number)
        for handled in self._previous_handlers:
            # The default action ends the process at once. An exception would wait for a save that is in progress.
            signal.signal(handled, signal.SIG_DFL)

    def _restore(self) -> None:
        """Restores the handlers that were set before the `with` block."""
        self._last_words = None
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous_handlers = {}
        signal.set_wakeup_fd(self._previous_wakeup_fd)
        self._sender.close()

    def __enter__(self) -> "StopSignal":
        # Python writes the number of every signal to the socket as soon as it arrives.
        receiver, self._sender = socket.socketpair()
        self._sender.setblocking(False)
        threading.Thread(target=self._watch, args=(receiver,), daemon=True).start()
        self._previous_wakeup_fd = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        for number in HANDLED_SIGNALS:
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
