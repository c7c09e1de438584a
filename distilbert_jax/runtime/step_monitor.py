"""What each step did: read a step late, so the host never holds up the device."""

import dataclasses
import math
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np

from distilbert_jax import log_keys
from distilbert_jax.devices.peak import peak_memory_bytes
from distilbert_jax.io.console import console
from distilbert_jax.losses.base import Loss
from distilbert_jax.runtime.checkpoint import Checkpoints
from distilbert_jax.runtime.metrics_log import MetricsLog, NullLog
from distilbert_jax.types import Metrics

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class StepWork:
    """What updates have to do."""

    tokens: int  # padding included
    real: int
    flops: Mapping[str, float]  # by the name under which their share of the peak is logged

    @classmethod
    def of(cls, batch: Mapping[str, np.ndarray], flops: Mapping[str, float]) -> "StepWork":
        """Of one update, from this process's rows of a global batch: all processes have alike much."""
        processes, real = jax.process_count(), int((batch["segment_ids"] > 0).sum())
        return cls(processes * batch["tokens"].size, processes * real, flops)

    def plus(self, other: "StepWork") -> "StepWork":
        flops = {name: self.flops.get(name, 0.0) + value for name, value in other.flops.items()}
        return StepWork(self.tokens + other.tokens, self.real + other.real, flops)


class StepMonitor:
    """Logs every `log_every`-th step, and stops the run at the first that is not finite and not allowed.

    `run` is the folder of a run that `replay` can go back to; `peak` the FLOP/s that the devices could make of it.
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
        self.note = ""  # for the progress bar
        self._log = log
        self._checkpoints = checkpoints
        self._losses = losses
        self._schedule = schedule
        self._log_every = log_every
        self._bad_steps_allowed = max_nonfinite_steps
        self._run = run
        self._peak = peak
        self._pending: tuple[int, Metrics, float, StepWork] | None = None
        self._compiled = False
        self.restart()

    def restart(self) -> None:
        """Takes the time anew: after compiling, measuring, or anything else that is no training."""
        self._since, self._waited = time.perf_counter(), 0.0
        self._work = StepWork(0, 0, {})

    def after(self, step: int, metrics: Metrics, waited: float, *, work: StepWork) -> None:
        """Notes a step just dispatched, and reads the one before. `waited`: seconds until its batch came."""
        self.read_pending()
        self._pending = (step, metrics, waited, work)

    def read_pending(self) -> None:
        """Reads the last step. Where it was not finite, the update was left out, so the state is good: ValueError, or
        a line on the screen where that is allowed.
        """
        if self._pending is None:
            return
        (step, metrics, waited, work), self._pending = self._pending, None
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        wrong = [name for name, value in values.items() if not math.isfinite(value)]
        # Above 1, only the loss scale was too large, and it is halved.
        if wrong and values.get(log_keys.LOSS_SCALE.name, 1.0) <= 1.0:
            became = f"step {step:,}: {', '.join(wrong)} became {values[wrong[0]]}. The update was left out"
            nonfinite_steps = values[log_keys.NONFINITE_STEPS.name]
            if not 1 <= nonfinite_steps <= self._bad_steps_allowed:
                raise ValueError(f"{became}. {self._mend(step)}")
            count = f"{nonfinite_steps:.0f} of the {self._bad_steps_allowed} that max_nonfinite_steps grants"
            console.print(f"[bold yellow]{became}: {count}[/]")
        self._work = self._work.plus(work)
        self._waited += waited
        pace = self._pace()
        self.note = f"loss {values[log_keys.LOSS.name]:.3f}" + _in_words(pace)
        logged = step % self._log_every == 0 or step == 1 or bool(wrong)
        if logged:
            rate = {log_keys.LEARNING_RATE.name: float(self._schedule(step - 1))}
            peak_memory = {log_keys.PEAK_MEMORY_BYTES.name: peak_memory_bytes()} if pace else {}
            self._log.write("train", step, self._named(values) | rate | pace | peak_memory)
        if logged or not self._compiled:
            self._compiled = True
            self.restart()

    def _mend(self, step: int) -> str:
        """What there is to go on from, and what to do."""
        parts = [f"{self._checkpoints.last()}."]
        if self._run is not None:
            parts.append(f"Which loss and layer turned first: python -m distilbert_jax replay {self._run} {step}.")
        parts.append("If it comes again, lower optimizer.learning_rate or optimizer.max_grad_norm")
        if self._run is not None:
            parts.append("or raise max_nonfinite_steps")
        return " ".join(parts)

    def _pace(self) -> dict[str, float]:
        """Speed since the clock was started; nothing for the first step, which is compiled."""
        if not self._compiled:
            return {}
        elapsed = time.perf_counter() - self._since
        pace = {
            log_keys.TOKENS_PER_SECOND.name: self._work.tokens / elapsed,
            log_keys.DATA_WAIT_FRACTION.name: self._waited / elapsed,
            log_keys.PADDING_FRACTION.name: 1 - self._work.real / self._work.tokens,
        }
        if self._peak:
            pace |= {name: flops / elapsed / self._peak for name, flops in self._work.flops.items()}
        return pace

    def _named(self, values: Mapping[str, float]) -> dict[str, float]:
        """With each loss its share of the objective."""
        total = values[log_keys.LOSS.name]
        shares = {
            log_keys.LOSS_SHARE.name(loss=name): loss.weight * values[log_keys.LOSS_MEAN.name(loss=name)] / total
            for name, loss in self._losses.items()
            if total
        }
        return dict(values) | shares


def _in_words(pace: Mapping[str, float]) -> str:
    said = f"  {pace[log_keys.TOKENS_PER_SECOND.name]:,.0f} tokens/s" if pace else ""
    return said + (f"  {pace[log_keys.MFU.name]:.0%} of peak" if log_keys.MFU.name in pace else "")


def time_waits(items: Iterable[T]) -> Iterator[tuple[T, float]]:
    """Each item, and the seconds until it came."""
    start = time.perf_counter()
    for item in items:
        yield item, time.perf_counter() - start
        start = time.perf_counter()
