"""What a run says of itself: scalars as JSON lines and for TensorBoard, each step once."""

import json
import pathlib
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal

from distilbert_jax import files
from distilbert_jax.progress import console

Kind = Literal["train", "eval"]


class Log:
    """`log.jsonl` and the TensorBoard files of a run folder. A run that goes on from step n forgets what was logged
    after n; one that starts, at 0, forgets everything.
    """

    def __init__(self, folder: pathlib.Path, *, start: int):
        self._path = folder / "log.jsonl"
        if not start:
            self._path.unlink(missing_ok=True)
            files.remove(folder / "tensorboard")
        elif self._path.exists():
            cut_back(self._path, start)
        self._jsonl = open(self._path, "a", encoding="utf-8")  # noqa: SIM115
        self._board = Board(folder / "tensorboard", start=start)

    def write(self, kind: Kind, step: int, scalars: Mapping[str, float]) -> None:
        self._jsonl.write(json.dumps({"kind": kind, "step": step, **scalars}) + "\n")
        self._board.write(kind, step, scalars)

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

    def __enter__(self) -> "Log":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._jsonl.close()
        self._board.close()


class Board:
    """Scalars for TensorBoard, written as they come: tensorboardX's own writer has a thread, and where that one meets a
    full disk it dies, and the run waits for it for ever.
    """

    def __init__(self, folder: pathlib.Path, *, start: int):
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


def read(folder: pathlib.Path, kind: Kind) -> list[dict[str, Any]]:
    """The lines of one kind, in order."""
    with open(folder / "log.jsonl", encoding="utf-8") as lines:
        return [entry for entry in map(json.loads, lines) if entry["kind"] == kind]


def cut_back(path: pathlib.Path, step: int) -> None:
    """Drops the lines of steps after `step`, and a last line that a crash left unfinished; any other that cannot be
    read is dropped aloud.
    """
    kept = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
        except ValueError:
            if number < len(lines):
                console.print(f"[bold red]{path}, line {number} is damaged, and dropped[/]")
            continue
        if entry["step"] <= step:
            kept.append(line + "\n")
    with files.atomic(path) as partial:
        partial.write_text("".join(kept), encoding="utf-8")
