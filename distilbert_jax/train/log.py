"""What a run says of itself: scalars as JSON lines and for TensorBoard, each step once."""

import json
import math
import os
import pathlib
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal

from distilbert_jax import files
from distilbert_jax.train.hosts import is_first

Kind = Literal["train", "eval"]


class Log:
    """`log.jsonl` and the TensorBoard files of a run folder, which process 0 writes. A run that goes on from step n
    forgets what was logged after n. What is not finite is null in the one, since JSON has no NaN, and left out of the
    other.
    """

    def __init__(self, folder: pathlib.Path, *, start: int):
        from tensorboardX import SummaryWriter

        path, writes = folder / "log.jsonl", is_first()
        if writes and path.exists():
            cut_back(path, start)
        self._jsonl = open(path if writes else os.devnull, "a", encoding="utf-8")  # noqa: SIM115
        self._board = SummaryWriter(
            str(folder / "tensorboard"),
            purge_step=start + 1 if start else None,
            filename_suffix=f".{start}",
            write_to_disk=writes,
        )

    def write(self, kind: Kind, step: int, scalars: Mapping[str, float]) -> None:
        finite = {name: value if math.isfinite(value) else None for name, value in scalars.items()}
        self._jsonl.write(json.dumps({"kind": kind, "step": step, **finite}) + "\n")
        for name, value in finite.items():
            if value is not None:
                self._board.add_scalar(f"{kind}/{name}", value, step)

    def flush(self) -> None:
        """Everything written so far is on disk."""
        self._jsonl.flush()
        self._board.flush()

    def __enter__(self) -> "Log":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._jsonl.close()
        self._board.close()


def read(folder: pathlib.Path, kind: Kind) -> list[dict[str, Any]]:
    """The lines of one kind, in order; null is NaN again."""
    with open(folder / "log.jsonl", encoding="utf-8") as lines:
        entries = [entry for entry in map(json.loads, lines) if entry["kind"] == kind]
    return [{name: math.nan if value is None else value for name, value in entry.items()} for entry in entries]


def cut_back(path: pathlib.Path, step: int) -> None:
    """Drops the lines of steps after `step`, and a last line that a crash left unfinished."""
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            break
        if entry["step"] <= step:
            kept.append(line + "\n")
    with files.atomic(path) as partial:
        partial.write_text("".join(kept), encoding="utf-8")
