"""What a run says of itself: scalars as JSON lines and for TensorBoard, each step once."""

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
from distilbert_jax.io.console import console

Kind = Literal["train", "eval"]


class LogEntry(TypedDict):
    """What every line has; the scalars stand beside it."""

    kind: str
    step: int


class MetricsLog:
    """`log.jsonl` and the TensorBoard files of a run folder, which process 0 writes. A run that goes on from step n
    forgets what was logged after n; one that starts, at 0, forgets everything. What is not finite is null in the one,
    since JSON has no NaN, and left out of the other.
    """

    def __init__(self, folder: pathlib.Path, *, start: int):
        self._path = folder / "log.jsonl"
        if not start:
            self._path.unlink(missing_ok=True)
            files.remove(folder / "tensorboard")
        elif self._path.exists():
            truncate_log(self._path, start)
        self._jsonl = open(self._path, "a", encoding="utf-8")  # noqa: SIM115
        self._board = TensorBoardWriter(folder / "tensorboard", start=start)

    def write(self, kind: Kind, step: int, scalars: Mapping[str, float]) -> None:
        finite = {name: value for name, value in scalars.items() if math.isfinite(value)}
        self._jsonl.write(json.dumps({"kind": kind, "step": step, **dict.fromkeys(scalars), **finite}) + "\n")
        self._board.write(kind, step, finite)

    def flush(self) -> None:
        """Everything written so far is on disk. ValueError where somebody removed the log: what is written to it
        then goes nowhere, and the system says nothing.
        """
        if not self._path.exists():
            raise ValueError(
                f"{self._path} vanished while the run went on; the same command goes on from the last checkpoint, if"
                " it is still there"
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
    """The lines of one kind, in order; null is NaN again. ValueError where one is damaged, or has not the scalars that
    are `wanted`.
    """
    path = folder / "log.jsonl"
    entries = []
    for number, line in enumerate(untrusted.read_text(path).splitlines(), 1):
        where = f"{path}, line {number}"
        entry: dict[str, Any] = untrusted.parse_json(line, LogEntry, where=where)
        if entry["kind"] == kind:
            scalars = {name: math.nan if x is None else x for name, x in entry.items() if name != "kind"}
            untrusted.check_shape(scalars, dict[str, float], where=where)
            if missing := [name for name in shape if name not in entry]:
                raise ValueError(f"{where} does not state {missing[0]!r}")
            entries.append({"kind": kind, **scalars})
    return entries


class NullLog:
    """The log of the processes that write none."""

    def write(self, kind: Kind, step: int, scalars: Mapping[str, float]) -> None: ...

    def flush(self) -> None: ...

    def __enter__(self) -> "NullLog":
        return self

    def __exit__(self, *of_error: object) -> None: ...


class TensorBoardWriter:
    """Scalars for TensorBoard, written as they come: tensorboardX's own writer has a thread, and where that one meets a
    full disk it dies, and the run waits for it for ever.
    """

    def __init__(self, folder: pathlib.Path, *, start: int):
        with _not_installed("torch"):  # tensorboardX would import it, for what is not used here: seconds
            from tensorboardX import event_file_writer, summary
            from tensorboardX.proto import event_pb2

        folder.mkdir(exist_ok=True)
        self._scalar, self._event = summary.scalar, event_pb2.Event
        self._writer = event_file_writer.EventsWriter(str(folder / "events"), f".{start}")
        if start:  # its readers drop what they have read of this step and later ones
            going_on = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._writer.write_event(self._event(wall_time=time.time(), step=start + 1, session_log=going_on))

    def write(self, kind: Kind, step: int, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            summary = self._scalar(f"{kind}/{name}", value)
            self._writer.write_event(self._event(wall_time=time.time(), step=step, summary=summary))

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


@contextlib.contextmanager
def _not_installed(name: str) -> Iterator[None]:
    """What is imported inside does not find this module, unless it is loaded already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


def truncate_log(path: pathlib.Path, step: int) -> None:
    """Drops the lines of steps after `step`, and a last line that a crash left unfinished; any other that cannot be
    read is dropped aloud.
    """
    kept = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            entry = untrusted.parse_json(line, LogEntry, where=str(path))
        except ValueError:
            if number < len(lines):
                console.print(f"[bold red]{path}, line {number} is damaged, and dropped[/]")
            continue
        if entry["step"] <= step:
            kept.append(line + "\n")
    with files.write_atomically(path) as partial:
        partial.write_text("".join(kept), encoding="utf-8")
