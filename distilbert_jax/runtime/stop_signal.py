"""Ctrl-C and SIGTERM: the first asks the loop to save and end, the second ends at once."""

import pathlib
import signal
from collections.abc import Callable
from types import FrameType, TracebackType

import jax
import numpy as np
from jax.sharding import Mesh

from distilbert_jax.devices.mesh import device_sharding, replicated_sharding


class StopSignal:
    """Within `with Stop(mesh) as stop`, a signal is remembered instead of ending the process."""

    def __init__(self, mesh: Mesh) -> None:
        self.signal: signal.Signals | None = None
        self._mesh = mesh
        self._strongest = jax.jit(lambda x: x.max(), out_shardings=replicated_sharding(mesh))
        self._before: dict[signal.Signals, object] = {}

    def poll(self) -> Callable[[], signal.Signals | None]:
        """Called before a step is dispatched; what it returns says, after that, which signal asks to end after this
        step: the same on every process, whichever got it. The processes agree before the step runs, so nobody waits
        for it.
        """
        if jax.process_count() == 1:
            return lambda: self.signal
        mine = np.full(jax.local_device_count(), self.signal or 0, np.int32)
        agreed = self._strongest(jax.make_array_from_process_local_data(device_sharding(self._mesh), mine))
        return lambda: signal.Signals(int(agreed)) if int(agreed) else None

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        for again in self._before:
            signal.signal(again, signal.SIG_DFL)  # an exception would wait for the save that is under way

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()


class RunStopped(KeyboardInterrupt):
    """A run ended early, as it was asked to, and saved everything. `status` is what a shell reports of such an end."""

    def __init__(self, by: signal.Signals, *, step: int, folder: pathlib.Path):
        super().__init__(
            f"ended by {by.name} after step {step:,}; everything is saved in {folder}, and the same command goes on "
            "from there"
        )
        self.status = 128 + by
