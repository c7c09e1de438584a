"""What a run says of itself: scalars as JSON lines and for TensorBoard, each step once."""

import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, TypedDict

from distilbert_jax import files, untrusted
from distilbert_jax.train.hosts import is_first

Kind = Literal["train", "eval"]


class Entry(TypedDict):
    """What every line has; the scalars stand beside it."""

    kind: str
    step: int


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


def read(folder: pathlib.Path, kind: Kind, *, wanted: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The lines of one kind, in order; null is NaN again. ValueError where one is damaged, or has not the scalars that
    are `wanted`.
    """
    path = folder / "log.jsonl"
    entries = []
    for number, line in enumerate(untrusted.text(path).splitlines(), 1):
        where = f"{path}, line {number}"
        entry: dict[str, Any] = untrusted.parse_json(line, Entry, where=where)
        if entry["kind"] == kind:
            scalars = {name: math.nan if x is None else x for name, x in entry.items() if name != "kind"}
            untrusted.demand(scalars, dict[str, float], where=where)
            if missing := [name for name in wanted if name not in entry]:
                raise ValueError(f"{where} does not state {missing[0]!r}")
            entries.append({"kind": kind, **scalars})
    return entries


def cut_back(path: pathlib.Path, step: int) -> None:
    """Drops the lines of steps after `step`, and a last line that a crash left unfinished."""
    kept = []
    for line in untrusted.text(path).splitlines():
        try:
            entry = untrusted.parse_json(line, Entry, where=str(path))
        except ValueError:
            break
        if entry["step"] <= step:
            kept.append(line + "\n")
    with files.atomic(path) as partial:
        partial.write_text("".join(kept), encoding="utf-8")
