"""Logs the metrics and the speed of training steps, and stops a run whose loss or gradients are not finite.

The metrics of a step are read after the next one has been dispatched, so that the device never waits for the host.
"""

import dataclasses
import math
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np

from distilbert_jax import log_keys
from distilbert_jax.devices.peak import format_peak_share, peak_memory_bytes
from distilbert_jax.io.console import print_warning
from distilbert_jax.losses.base import Loss
from distilbert_jax.messages import format_command
from distilbert_jax.runtime.checkpoint import Checkpoints
from distilbert_jax.runtime.metrics_log import MetricsLog, NullLog
from distilbert_jax.types import Metrics

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class StepWork:
    """The amount of work in one or more updates.

    Attributes:
        tokens: the number of tokens, padding included.
        real_tokens: the number of tokens without padding.
        flops: floating point operations, by the log key of the utilization (MFU) that is computed from them.
    """

    tokens: int
    real_tokens: int
    flops: Mapping[str, float]

    @classmethod
    def from_batch(cls, batch: Mapping[str, np.ndarray], flops: Mapping[str, float]) -> "StepWork":
        """Returns the work of one update.

        Args:
            batch: this process's rows of a global batch. All processes have the same number of rows.
            flops: floating point operations of the whole update, by log key.
        """
        processes, real_tokens = jax.process_count(), int((batch["segment_ids"] > 0).sum())
        return cls(processes * batch["tokens"].size, processes * real_tokens, flops)

    def plus(self, other: "StepWork") -> "StepWork":
        """Returns the sum of both."""
        flops = {name: self.flops.get(name, 0.0) + value for name, value in other.flops.items()}
        return StepWork(self.tokens + other.tokens, self.real_tokens + other.real_tokens, flops)


class StepMonitor:
    """Logs every `log_every`-th step, and stops the run when too many steps were not finite.

    Args:
        log: where the metrics are logged.
        checkpoints: the checkpoints of the run. An error message names the last one.
        losses: the losses by name; their weights are needed for the share of each in the objective.
        schedule: returns the learning rate of the update with the given index, which starts at 0.
        log_every: how many steps there are between two entries of the log.
        max_nonfinite_steps: how many steps of a run may be skipped because they were not finite.
        run: the folder of a run that the `replay` command can read, or None.
        peak: the peak FLOP/s of all devices, or None if it is not known. Without it, no utilization is logged.

    Attributes:
        note: the loss and the speed of the last step as text, for the progress bar.
    """

    def __init__(
        self,
        log: MetricsLog | NullLog,
        checkpoints: Checkpoints,
        *,
        losses: Mapping[str, Loss],
        schedule: Callable[[int], Any],
        log_every: int,
        max_nonfinite_steps: int = 0,
        run: pathlib.Path | None = None,
        peak: float | None = None,
    ):
        self.note = ""
        self._log = log
        self._checkpoints = checkpoints
        self._losses = losses
        self._schedule = schedule
        self._log_every = log_every
        self._max_nonfinite_steps = max_nonfinite_steps
        self._run = run
        self._peak_flops = peak
        self._pending: tuple[int, Metrics, float, StepWork] | None = None
        self._compiled = False
        self.restart()

    def restart(self) -> None:
        """Restarts the clock. Call it after anything that is not training, such as an evaluation."""
        self._start_clock(time.perf_counter())

    def _start_clock(self, now: float) -> None:
        """Starts to measure the speed at a time of the performance counter."""
        self._start_time, self._data_wait = now, 0.0
        self._work = StepWork(0, 0, {})

    def after(self, step: int, metrics: Metrics, waited: float, *, work: StepWork) -> None:
        """Remembers the step that was just dispatched, and reads the metrics of the one before.

        Args:
            step: the number of the step, from 1.
            metrics: its metrics, still on the devices.
            waited: how many seconds the host waited for its batch.
            work: the work of the step.

        Raises:
            ValueError: the step before was not finite, and no more such steps are allowed.
        """
        self.read_pending()
        self._pending = (step, metrics, waited, work)

    def read_pending(self) -> None:
        """Reads and logs the metrics of the last step that was dispatched.

        The update of a step that was not finite has been skipped, so the state is intact. If `max_nonfinite_steps`
        allows it, a message is printed and the run continues.

        Raises:
            ValueError: the step was not finite, and no more such steps are allowed.
        """
        if self._pending is None:
            return
        (step, metrics, waited, work), self._pending = self._pending, None
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        # Everything below takes time too. It belongs to the next steps, so the clock is read only here.
        now = time.perf_counter()
        nonfinite = [name for name, value in values.items() if not math.isfinite(value)]
        # With a loss scale above 1, an overflow only means that the scale was too large. The step halves it.
        if nonfinite and values.get(log_keys.LOSS_SCALE.name, 1.0) <= 1.0:
            problem = f"step {step:,}: {', '.join(nonfinite)} became {values[nonfinite[0]]}. The update was skipped"
            nonfinite_steps = values[log_keys.NONFINITE_STEPS.name]
            if not 1 <= nonfinite_steps <= self._max_nonfinite_steps:
                raise ValueError(f"{problem}. {self._format_remedy(step)}")
            count = f"{nonfinite_steps:.0f} of the {self._max_nonfinite_steps} steps that max_nonfinite_steps allows"
            print_warning(f"{problem}: {count}.")
        self._work = self._work.plus(work)
        self._data_wait += waited
        pace = self._compute_pace(now - self._start_time)
        self.note = f"loss {values[log_keys.LOSS.name]:.3f}" + _format_pace(pace)
        logged = step % self._log_every == 0 or step == 1 or bool(nonfinite)
        if logged:
            rate = {log_keys.LEARNING_RATE.name: float(self._schedule(step - 1))}
            peak_memory = {log_keys.PEAK_MEMORY_BYTES.name: peak_memory_bytes()} if pace else {}
            self._log.write("train", step, self._add_loss_shares(values) | rate | pace | peak_memory)
        # The first step includes compilation, so the clock starts after it.
        if logged or not self._compiled:
            self._compiled = True
            self._start_clock(now)

    def _format_remedy(self, step: int) -> str:
        """Returns the sentences that say from where the run can continue, and what to do about a step."""
        parts = [f"{self._checkpoints.format_last()}."]
        if self._run is not None:
            parts.append(
                "To find the loss and the layer that became non-finite first, run: "
                f"{format_command('replay', self._run, step)}."
            )
        parts.append("If it happens again, lower optimizer.learning_rate or optimizer.max_grad_norm")
        if self._run is not None:
            parts.append("or raise max_nonfinite_steps")
        return " ".join(parts)

    def _compute_pace(self, elapsed: float) -> dict[str, float]:
        """Returns the speed in the given seconds; empty for the first step, which includes compilation."""
        if not self._compiled:
            return {}
        pace = {
            log_keys.TOKENS_PER_SECOND.name: self._work.tokens / elapsed,
            log_keys.DATA_WAIT_FRACTION.name: self._data_wait / elapsed,
            log_keys.PADDING_FRACTION.name: 1 - self._work.real_tokens / self._work.tokens,
        }
        if self._peak_flops:
            pace |= {name: flops / elapsed / self._peak_flops for name, flops in self._work.flops.items()}
        return pace

    def _add_loss_shares(self, values: Mapping[str, float]) -> dict[str, float]:
        """Returns the metrics and, for each loss, its share of the objective."""
        total = values[log_keys.LOSS.name]
        shares = {
            log_keys.LOSS_SHARE.name(loss=name): loss.weight * values[log_keys.LOSS_MEAN.name(loss=name)] / total
            for name, loss in self._losses.items()
            if total
        }
        return dict(values) | shares


def _format_pace(pace: Mapping[str, float]) -> str:
    """Returns the speed as text for the progress bar, or an empty text if it is not known yet."""
    text = f"  {pace[log_keys.TOKENS_PER_SECOND.name]:,.0f} tokens/s" if pace else ""
    return text + (f"  {format_peak_share(pace[log_keys.MFU.name])}" if log_keys.MFU.name in pace else "")


def time_waits(items: Iterable[T]) -> Iterator[tuple[T, float]]:
    """Yields each item together with the seconds that the caller waited for it."""
    start = time.perf_counter()
    for item in items:
        yield item, time.perf_counter() - start
        start = time.perf_counter()
