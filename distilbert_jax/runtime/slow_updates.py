"""Updates that take so long that a signal should not wait for their end.

Normally a signal ends a run after the current update, which is then saved. If an update takes longer than
`SLOW_UPDATE_SECONDS`, schedulers would kill the process before that. Then every update is saved instead, and a signal
ends the run at once: only the unfinished update is lost. The first update of every process is treated in the same way,
because its time is not known yet and everything before it is saved.
"""

import time

import jax

from distilbert_jax.devices.processes import broadcast_first
from distilbert_jax.io.console import print_warning
from distilbert_jax.runtime.checkpoint import Checkpoints
from distilbert_jax.runtime.stop_signal import StopSignal
from distilbert_jax.types import Metrics

SLOW_UPDATE_SECONDS = 30.0


class SlowUpdates:
    """Decides after every update whether the next one counts as slow. All processes decide the same.

    `begin` and `finish` are called around every update. The time between them includes the wait for its rows.

    Args:
        stop_signal: what receives the signals.
        checkpoints: the checkpoints of the run.
        estimate: the estimated time of an update in seconds, or 0 if it is not known.

    Attributes:
        is_slow: whether updates are slow, so that each of them has to be saved.
    """

    def __init__(self, stop_signal: StopSignal, checkpoints: Checkpoints, *, estimate: float) -> None:
        self.is_slow = self._decide(estimate)
        self._ends_at_once = True  # the first update, too
        self._stop_signal = stop_signal
        self._checkpoints = checkpoints
        self._start_time = 0.0
        self._is_announced = self._is_compiled = False
        if self.is_slow:
            self._announce(f"An update takes about {_format_time(estimate)}")

    def begin(self, step: int) -> None:
        """Begins an update. If a signal would end the run at once from here on, everything before it is saved."""
        if not self._ends_at_once:
            return
        self._checkpoints.wait()
        # The first process finishes a checkpoint for all; the others must not end the run before that.
        broadcast_first(step)
        self._stop_signal.end_at_once(f"during step {step:,}. {self._checkpoints.format_last()}")
        self._start_time = time.perf_counter()

    def finish(self, metrics: Metrics) -> bool:
        """Waits for the metrics of an update if a signal would end the run at once, and decides about the next one.

        Returns:
            Whether it waited. The metrics can then be read without delay.
        """
        if not self._ends_at_once:
            return False
        jax.block_until_ready(metrics)
        self._stop_signal.only_remember()
        seconds = time.perf_counter() - self._start_time
        self.is_slow = self._ends_at_once = self._decide(seconds)
        # The time of the first update includes its compilation, so it may be slow without the others being slow.
        if self.is_slow and self._is_compiled:
            self._announce(f"An update took {_format_time(seconds)}")
        self._is_compiled = True
        return True

    def _decide(self, seconds: float) -> bool:
        """Returns whether an update is slow, which the first process decides for all."""
        return bool(broadcast_first(int(seconds > SLOW_UPDATE_SECONDS)))

    def _announce(self, fact: str) -> None:
        """Prints once that updates are slow, and what follows from it."""
        if not self._is_announced:
            print_warning(
                f"{fact}. Therefore every update is saved, and Ctrl-C or SIGTERM ends the run at once: at most the "
                "unfinished update is lost."
            )
        self._is_announced = True


def _format_time(seconds: float) -> str:
    """Returns a time in seconds, minutes or hours."""
    for unit, length in (("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"
