"""Logs the scalars of a run as JSON lines and for TensorBoard, with exactly one entry per step."""

import contextlib
import json
import math
import pathlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, TypedDict

from distilbert_jax.io import files, untrusted
from distilbert_jax.io.console import print_damage

Kind = Literal["train", "eval"]

LOG_FILE = "log.jsonl"


class LogEntry(TypedDict):
    """The fields that every line of log.jsonl has in addition to its scalars."""

    kind: str
    step: int


class MetricsLog:
    """Writes log.jsonl and the TensorBoard files of a run folder. Only process 0 has one.

    A value that is not finite is null in log.jsonl, because JSON has no NaN, and is omitted from TensorBoard.

    Args:
        folder: the run folder.
        start: the step from which the run continues. Entries of later steps are removed; if it is 0, all entries.
    """

    def __init__(self, folder: pathlib.Path, *, start: int):
        self._path = folder / LOG_FILE
        if not start:
            self._path.unlink(missing_ok=True)
            files.remove(folder / "tensorboard")
        elif self._path.exists():
            truncate_log(self._path, start)
        self._jsonl = open(self._path, "a", encoding="utf-8")  # noqa: SIM115
        self._board = TensorBoardWriter(folder / "tensorboard", start=start)

    def write(self, kind: Kind, step: int, scalars: Mapping[str, float]) -> None:
        """Writes the scalars of one step. They may stay in a buffer until `flush`."""
        finite = {name: value for name, value in scalars.items() if math.isfinite(value)}
        self._jsonl.write(
            json.dumps({"kind": kind, "step": step, **dict.fromkeys(scalars), **finite}, allow_nan=False) + "\n"
        )
        self._board.write(kind, step, finite)

    def flush(self) -> None:
        """Writes everything that is still in a buffer to disk.

        Raises:
            ValueError: the log file was deleted. Without this check, its lines would be lost without an error.
        """
        if not self._path.exists():
            raise ValueError(
                f"{self._path} was deleted or moved during the run; do not change the folder of a run. The same "
                "command continues from the last checkpoint, if it still exists"
            )
        self._jsonl.flush()
        self._board.flush()

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._jsonl.close()
        self._board.close()


def read_log(folder: pathlib.Path, kind: Kind, *, shape: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Returns the entries of one kind in log.jsonl, in order. A null is returned as NaN.

    Args:
        folder: the run folder.
        kind: "train" or "eval".
        shape: the names of the scalars that every entry must have.

    Raises:
        ValueError: a line is damaged, or lacks one of these scalars.
    """
    path = folder / LOG_FILE
    entries = []
    for number, line in enumerate(untrusted.read_text(path).splitlines(), 1):
        where = f"{path}, line {number}"
        entry: dict[str, Any] = untrusted.parse_json(line, LogEntry, where=where)
        if entry["kind"] == kind:
            scalars = {name: math.nan if x is None else x for name, x in entry.items() if name != "kind"}
            untrusted.check_shape(scalars, dict[str, float], where=where)
            if missing := [name for name in shape if name not in entry]:
                raise ValueError(f"{where} has no value for {missing[0]!r}")
            entries.append({"kind": kind, **scalars})
    return entries


class NullLog:
    """Replaces MetricsLog in the processes that do not write a log."""

    def write(self, kind: Kind, step: int, scalars: Mapping[str, float]) -> None:
        """Does nothing."""

    def flush(self) -> None:
        """Does nothing."""

    def __enter__(self) -> "NullLog":
        return self

    def __exit__(self, *exception: object) -> None: ...


class TensorBoardWriter:
    """Writes scalars for TensorBoard in the calling thread.

    The writer of tensorboardX uses a thread of its own. If the disk is full, this thread ends, and the run would wait
    for it forever.

    Args:
        folder: the folder of the event files. It is created if it does not exist.
        start: the step from which the run continues, or 0.
    """

    def __init__(self, folder: pathlib.Path, *, start: int):
        # If torch is installed, tensorboardX imports it. That takes seconds, and nothing here needs it.
        with _hide_module("torch"):
            from tensorboardX import event_file_writer, summary
            from tensorboardX.proto import event_pb2

        folder.mkdir(exist_ok=True)
        self._scalar, self._event = summary.scalar, event_pb2.Event
        self._writer = event_file_writer.EventsWriter(str(folder / "events"), f".{start}")
        if start:
            # When TensorBoard reads this event, it drops what it has read of this step and later ones.
            restart = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._writer.write_event(self._event(wall_time=time.time(), step=start + 1, session_log=restart))

    def write(self, kind: Kind, step: int, scalars: Mapping[str, float]) -> None:
        """Writes the scalars of one step under the tags KIND/NAME."""
        for name, value in scalars.items():
            summary = self._scalar(f"{kind}/{name}", value)
            self._writer.write_event(self._event(wall_time=time.time(), step=step, summary=summary))

    def flush(self) -> None:
        """Writes everything that is still in a buffer to disk."""
        self._writer.flush()

    def close(self) -> None:
        """Closes the event file."""
        self._writer.close()


@contextlib.contextmanager
def _hide_module(name: str) -> Iterator[None]:
    """Makes an import of the module `name` fail inside the `with` block, unless it is already loaded."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


def truncate_log(path: pathlib.Path, step: int) -> None:
    """Removes the lines of steps after `step`, and lines that cannot be read.

    A last line that cannot be read is one that a crash left unfinished. For any other, a message is printed.
    """
    kept = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            entry = untrusted.parse_json(line, LogEntry, where=str(path))
        except ValueError:
            if number < len(lines):
                print_damage(f"{path}: line {number} is damaged and was removed.")
            continue
        if entry["step"] <= step:
            kept.append(line + "\n")
    with files.write_atomically(path) as partial:
        partial.write_text("".join(kept), encoding="utf-8")
