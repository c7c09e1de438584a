"""Sides of a benchmark, each a process of its own, that take turns: the machine's noise falls on all of them."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any


def take_turns(commands: Mapping[str, Sequence[str]], repeats: int) -> dict[str, list[Any]]:
    """What each side answers, `repeats` times: arguments of Python go in, a line of JSON a turn comes back. A side says
    `ready` once it has warmed up.
    """
    workers = {
        side: subprocess.Popen([sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for side, command in commands.items()
    }
    for side, worker in workers.items():
        assert any(line == "ready\n" for line in worker.stdout), f"the side {side} did not start"
    got: dict[str, list[Any]] = {side: [] for side in workers}
    for _ in range(repeats):
        for side, worker in workers.items():
            worker.stdin.write("go\n")
            worker.stdin.flush()
            got[side].append(json.loads(worker.stdout.readline()))
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    return got
