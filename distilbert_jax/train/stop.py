"""Ctrl-C and SIGTERM: the first asks the loop to save and end, the second ends at once."""

import pathlib
import signal
from types import FrameType, TracebackType


class Stop:
    """Within `with Stop() as stop`, `stop.signal` is the signal that asked to end, None until then."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        for again in self._before:
            signal.signal(again, signal.SIG_DFL)  # an exception would wait for the save that is under way

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}

    def __enter__(self) -> "Stop":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()


class Stopped(KeyboardInterrupt):
    """A run ended early, as it was asked to, and saved everything. `status` is what a shell reports of such an end."""

    def __init__(self, by: signal.Signals, *, step: int, folder: pathlib.Path):
        super().__init__(
            f"ended by {by.name} after step {step:,}; everything is saved in {folder}, and the same command goes on "
            "from there"
        )
        self.status = 128 + by
