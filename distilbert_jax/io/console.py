"""The console, and progress: a bar on a terminal, or a plain line from time to time in a log file."""

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

LINE_INTERVAL_SECONDS = 20.0  # between two lines where there is no terminal

console = Console(highlight=False, soft_wrap=True)


def print_warning(text: str) -> None:
    """Prints a text that the user should not overlook."""
    console.print(text, style="bold yellow", markup=False)


def print_damage(text: str) -> None:
    """Prints which data are damaged, and what was done about it."""
    console.print(text, style="bold red", markup=False)


@contextlib.contextmanager
def progress_bar(label: str, *, total: int | None, stays: bool = True) -> Iterator[Callable[..., None]]:
    """Shows the progress of the block inside.

    Args:
        label: what is in progress.
        total: the count at the end, or None if it is not known.
        stays: whether the bar or the last line remains on the screen at the end.

    Yields:
        advance(done, note=""), to be called with the count so far and a text to show after it.
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
        yield _make_line_printer(label, total, prints_last=stays)


def _make_line_printer(label: str, total: int | None, *, prints_last: bool) -> Callable[..., None]:
    """Makes the `advance` of a progress bar that prints lines; `prints_last` says whether it always prints the end."""
    start = last_printed = time.monotonic()
    first_done: int | None = None

    def advance(done: int, note: str = "") -> None:
        nonlocal last_printed, first_done
        # A run that continues does not start at 0, and only what is done since then tells how long the rest will take.
        first_done = done if first_done is None else first_done
        now = time.monotonic()
        if now - last_printed < LINE_INTERVAL_SECONDS and not (prints_last and done == total):
            return
        last_printed = now
        remaining = ""
        if total and done > first_done:
            remaining = f", {(now - start) / (done - first_done) * (total - done):.0f} s left"
        console.print(
            f"{label} {done:,}{f' of {total:,}' if total else ''}, {now - start:.0f} s{remaining}  {note}".rstrip(),
            markup=False,
        )

    return advance
