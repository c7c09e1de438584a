"""Sides of a comparison, each a process of its own, that take turns: the machine's noise falls on all of them.

    python benchmarks/turns.py MODULE SIDE SETTINGS        # what such a process runs

A benchmark is a module of this folder with SIDES, {name: make}: make(**settings) gets ready and returns the turn, which
does the work once and gives its figures. The peak of the process's memory is added to them.
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
WARM = 2  # turns that are not counted: they compile


@dataclasses.dataclass(frozen=True, kw_only=True)
class Side:
    """One of SIDES of a module, and what `make` is given."""

    module: str
    name: str
    settings: Mapping[str, Any]

    @property
    def command(self) -> list[str]:
        """The command that measures this turn in a process of its own."""
        return [sys.executable, __file__, self.module, self.name, json.dumps(self.settings)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """What a benchmark found. `faster` says how many times faster ours is than each side, for the picture."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    faster: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        return "\n".join([f"### {self.title}", "", *(f"| {' | '.join(line)} |" for line in lines), ""])


def take_turns(sides: Mapping[str, Side], repeats: int) -> dict[str, dict[str, list[float]]]:
    """{side: {figure: its value of every turn}}."""
    workers = {label: _Worker(label, side) for label, side in sides.items()}
    got: dict[str, dict[str, list[float]]] = {label: {} for label in workers}
    for _ in range(repeats):
        for label, worker in workers.items():
            for figure, value in worker.turn().items():
                got[label].setdefault(figure, []).append(value)
    for worker in workers.values():
        worker.end()
    return got


class _Worker:
    """A side's process."""

    def __init__(self, label: str, side: Side):
        self._label = label
        self._process = subprocess.Popen(side.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer("ready")

    def turn(self) -> dict[str, float]:
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return json.loads(self._answer("turn "))

    def _answer(self, start: str) -> str:
        """Of the next line that begins so: libraries have their say on stdout, too."""
        for line in self._process.stdout:
            if line.startswith(start):
                return line.removeprefix(start)
        raise RuntimeError(f"the side {self._label!r} ended with status {self._process.wait()}")

    def end(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Median (quartiles)."""
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def seconds(work: Callable[[], Any]) -> float:
    """That a call takes, which returns when it is done."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def serve(module: str, side: str, settings: str) -> None:
    """A side's own process: for every line it is sent, one turn."""
    turn: Turn = importlib.import_module(module).SIDES[side](**json.loads(settings))
    for _ in range(WARM):
        turn()
    print("ready", flush=True)
    for _ in sys.stdin:
        figures = turn()
        print("turn " + json.dumps({"memory": host_memory.peak_bytes()} | figures), flush=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
