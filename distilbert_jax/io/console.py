"""A progress bar on a terminal; in a log file, a plain line now and then."""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LINE_INTERVAL_SECONDS = 20.0  # seconds, where there is no terminal

console = Console(highlight=False, soft_wrap=True)


@contextlib.contextmanager
def progress_bar(label: str, *, total: int | None, stays: bool = True) -> Iterator[Callable[..., None]]:
    """Yields advance(done, note=""): `done` counts from the start, of `total` where that is known. A bar that does not
    stay leaves nothing on the screen.
    """
    if console.is_terminal:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, TextColumn("{task.fields[note]}"), console=console, transient=not stays) as progress:
            task = progress.add_task(label, total=total, note="")
            yield lambda done, note="": progress.update(task, completed=done, note=note)
    else:
        yield _lines(label, total, last_line=stays)


def _lines(label: str, total: int | None, *, last_line: bool) -> Callable[..., None]:
    start = last = time.monotonic()
    first: int | None = None

    def advance(done: int, note: str = "") -> None:
        nonlocal last, first
        first = done if first is None else first  # a run that goes on does not start at 0
        now = time.monotonic()
        if now - last < LINE_INTERVAL_SECONDS and not (last_line and done == total):
            return
        last = now
        left = f", {(now - start) / (done - first) * (total - done):.0f} s left" if total and done > first else ""
        console.print(
            f"{label} {done:,}{f' of {total:,}' if total else ''}, {now - start:.0f} s{left}  {note}".rstrip(),
            markup=False,
        )

    return advance
