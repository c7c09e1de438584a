"""Adds the file and the line to whatever goes wrong in Python code of a user: an experiment file, or a loss in it."""

import contextlib
import pathlib
import re
import sysconfig
import traceback
from collections.abc import Iterator
from types import TracebackType

PACKAGE_FOLDER = pathlib.Path(__file__).parent.parent
LIBRARY_FOLDERS = tuple(pathlib.Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib"))


@contextlib.contextmanager
def locate_errors(path: pathlib.Path) -> Iterator[None]:
    """Turns an exception in the block into a ValueError that begins with its place in a user's file.

    Args:
        path: the file. The place may also be in a file that it imports from its own folder.

    Raises:
        ValueError: the block raised an exception, or called `sys.exit`.
    """
    try:
        yield
    except SyntaxError as error:
        # The message of a syntax error names the file and the line in another form.
        place = f"{error.filename or path}, line {error.lineno}" if error.lineno else str(path)
        raise ValueError(f"{place}: {error.msg}") from error
    except (Exception, SystemExit) as error:
        raise ValueError(f"{find_place(error.__traceback__, path)}: {format_exception(error)}") from error


def find_place(trace: TracebackType | None, path: pathlib.Path) -> str:
    """Returns "FILE, line N" for the last line of a traceback that is in `path` or a file in the same folder.

    Without such a line it returns the path alone.
    """
    folder = path.resolve().parent
    place = str(path)
    for frame, line in traceback.walk_tb(trace):
        file = pathlib.Path(frame.f_code.co_filename)
        if file.is_relative_to(PACKAGE_FOLDER) or any(map(file.is_relative_to, LIBRARY_FOLDERS)):
            continue
        if file.resolve().is_relative_to(folder):
            place = f"{path if file.resolve() == path.resolve() else file}, line {line}"
    return place


def format_exception(error: BaseException) -> str:
    """Returns the message of an exception, after the name of its class unless that is ValueError."""
    if isinstance(error, SystemExit):
        return "the file ends the program with sys.exit; an experiment file must only define an experiment"
    text = str(error)
    if isinstance(error, ValueError):
        return text
    missing = re.search(r"abstract class (\w+) \w+(?: an implementation for)? abstract methods? '?(\w+)", text)
    if missing:
        return f"the class {missing[1]} does not define the method {missing[2]}, which it needs"
    # Messages of JAX have many lines, of which the first one says what is wrong.
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
