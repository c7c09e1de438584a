"""Measures the sides of a comparison in processes of their own, which take turns.

Because the sides take turns, the noise of the machine affects all of them equally. This is the command that starts the
process of one side:

    python benchmarks/turns.py MODULE SIDE SETTINGS

A benchmark is a module in this folder with a dictionary SIDES, {name: make}. make(**settings) prepares the side and
returns a function that does the work once and returns its measurements. The peak memory of the process is added to
them.
"""

import dataclasses
import importlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distilbert_jax.devices import host_memory

Turn = Callable[[], dict[str, float]]
WARMUP_TURNS = 2  # they compile, and are not measured


@dataclasses.dataclass(frozen=True, kw_only=True)
class Side:
    """One side of a comparison: its module, its name in SIDES and its settings."""

    module: str
    name: str
    settings: Mapping[str, Any]

    @property
    def command(self) -> list[str]:
        """The command that starts the process of this side."""
        return [sys.executable, __file__, self.module, self.name, json.dumps(self.settings)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """The results of a benchmark.

    Attributes:
        title: the heading of the table.
        header: the headings of its columns.
        rows: the cells of its rows.
        faster: how many times faster this package is than each other side, for the chart.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    faster: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        """Returns the table in Markdown."""
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        return "\n".join([f"### {self.title}", "", *(f"| {' | '.join(line)} |" for line in lines), ""])


def take_turns(sides: Mapping[str, Side], repeats: int) -> dict[str, dict[str, list[float]]]:
    """Returns the measurements of all turns: {side: {measurement: [its value in every turn]}}."""
    workers = {label: _Worker(label, side) for label, side in sides.items()}
    measurements: dict[str, dict[str, list[float]]] = {label: {} for label in workers}
    for _ in range(repeats):
        for label, worker in workers.items():
            for name, value in worker.turn().items():
                measurements[label].setdefault(name, []).append(value)
    for worker in workers.values():
        worker.end()
    return measurements


class _Worker:
    """The process of one side."""

    def __init__(self, label: str, side: Side):
        self._label = label
        self._process = subprocess.Popen(side.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._read_line("ready")

    def turn(self) -> dict[str, float]:
        """Lets the process do its work once, and returns its measurements."""
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return json.loads(self._read_line("turn "))

    def _read_line(self, start: str) -> str:
        """Returns the rest of the next line that begins with `start`. Libraries may print other lines."""
        for line in self._process.stdout:
            if line.startswith(start):
                return line.removeprefix(start)
        raise RuntimeError(f"the side {self._label!r} ended with status {self._process.wait()}")

    def end(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Returns the median and, in brackets, the quartiles as text."""
    low, median, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return f"{median:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def seconds(work: Callable[[], Any]) -> float:
    """Returns how long a call takes. The call must return only when its work is done."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def serve(module: str, side: str, settings: str) -> None:
    """Runs the process of a side, which does its work once for every line that it reads from stdin."""
    turn: Turn = importlib.import_module(module).SIDES[side](**json.loads(settings))
    for _ in range(WARMUP_TURNS):
        turn()
    print("ready", flush=True)
    for _ in sys.stdin:
        measurements = turn()
        print("turn " + json.dumps({"memory": host_memory.peak_bytes()} | measurements), flush=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
