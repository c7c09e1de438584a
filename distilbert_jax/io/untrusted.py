"""What others wrote, held whole: text, JSON, CSV and arrays. Each is read up to a stated size, JSON is checked against
a shape before anybody digs in it, and every error names the file and the place.
"""

import csv
import functools
import io
import json
import pathlib
import re
import stat
import tokenize
import types
import typing
from collections.abc import Iterator
from typing import Any

import numpy as np

MAX_TEXT_BYTES = 2**30  # bytes
MAX_JSON_BYTES = 2**26  # bytes: one of them may become thirty in memory
MAX_CELL_CHARACTERS = 2**24  # characters of a cell of a table

_PLAIN = {str: "text", int: "a whole number", float: "a number", bool: "true or false", types.NoneType: "null"}
_LEAVES = re.compile(r"\.\.|[/\\\0]")


def read_text(path: pathlib.Path, *, max_bytes: int = MAX_TEXT_BYTES, newline: str | None = None) -> str:
    """A file in UTF-8. `newline` as `open` has it."""
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise ValueError(f"{path} is no plain file")
    if about.st_size > max_bytes:
        raise ValueError(
            f"{path} has {about.st_size:,} bytes, and at most {max_bytes:,} are read: it is not what it seems"
        )
    try:
        with open(path, encoding="utf-8-sig", newline=newline) as file:
            return file.read()
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path}, line {line}: not UTF-8: byte 0x{error.object[error.start]:02x}. "
            "Convert it: iconv -f latin1 -t utf-8"
        ) from None


def read_json(path: pathlib.Path, shape: Any, *, what: str | None = None, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """A file of JSON, as `parse_json` has it."""
    return parse_json(read_text(path, max_bytes=max_bytes), shape, where=str(path), what=what)


def parse_json(content: str, shape: Any, *, where: str, what: str | None = None) -> Any:
    """JSON as a `shape`: a TypedDict, list[…], dict[str, …], a union, a plain type, or Any. ValueError, which says
    that `where` is not `what`, for anything else.
    """
    try:
        parsed = json.loads(content)
        if re.search(r"\\u[dD][89a-fA-F]", content):  # half of a pair is JSON, but no text
            json.dumps(parsed, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError(f"{where}: not {what or 'JSON that can be read'}: it is nested too deep") from None
    except ValueError as error:
        raise ValueError(f"{where}: not {what or 'JSON'}: {error}") from None
    check_shape(parsed, shape, where=where, what=what)
    return parsed


def check_shape(parsed: Any, shape: Any, *, where: str, what: str | None = None) -> None:
    """ValueError unless `parsed` has the shape."""
    if misfit := _misfit(parsed, shape, ""):
        raise ValueError(f"{where}: not {what}: {misfit}" if what else f"{where}: {misfit}")


def read_table(path: pathlib.Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, {column: cell}) of a CSV whose first line names its columns."""
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    reader = csv.DictReader(io.StringIO(read_text(path, newline=""), newline=""))
    try:
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(f"{path}, line {reader.line_num}: its columns are not those of the first line")
            yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: not CSV: {error}") from None


def load_array(path: pathlib.Path, *, kind: str, axes: int) -> np.ndarray:
    """A .npy file as a map of the disk. No pickle and no archive: its header has to say what the file holds. `kind` is
    NumPy's letter for the type, such as "u".
    """
    try:
        found = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, TypeError, EOFError, SyntaxError, tokenize.TokenError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path}: not an array that can be read: {error}") from None
    if found.dtype.kind != kind or found.ndim != axes:
        raise ValueError(f"{path}: not the array that was written: {found.ndim} axes of {found.dtype}")
    return found


def check_file_name(name: str, *, what: str) -> str:
    """`name`, which becomes a file or a folder. ValueError where it would lie elsewhere."""
    if not name or _LEAVES.search(name) or name in (".", "~") or not name.isprintable() or len(name) > 200:
        raise ValueError(
            f"{what} {name[:200]!r} cannot name a file: it must be one to 200 characters without / or \\ or .."
        )
    return name


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _misfit(x: Any, kind: Any, at: str) -> str | None:
    """What is wrong with `x` as a `kind`, in words; None where nothing is."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return None
    if origin in (typing.Union, types.UnionType):
        misfits = [_misfit(x, option, at) for option in args]
        return misfits[0] if all(misfits) else None
    if typing.is_typeddict(kind) or origin is dict:
        if not isinstance(x, dict):
            return f"{at} is not an object" if at else "not a JSON object"
        left_out = sorted(getattr(kind, "__required_keys__", frozenset()) - x.keys())
        if left_out:
            return f"{at or 'it'} does not state {left_out[0]!r}"
        hints = _hints(kind) if typing.is_typeddict(kind) else dict.fromkeys(x, args[1])
        parts = [(f"{at}.{name}" if at else name, x[name], hint) for name, hint in hints.items() if name in x]
    elif origin is list:
        if not isinstance(x, list):
            return f"{at or 'it'} is not a list"
        parts = [(f"{at}[{i}]", part, args[0]) for i, part in enumerate(x)]
    else:
        fits = type(x) is kind or (kind is float and type(x) is int)
        if fits and not (type(x) is int and abs(x) >= 2**63):
            return None
        shown = "a list" if isinstance(x, list) else "an object" if isinstance(x, dict) else repr(x)[:60]
        return f"{at or 'it'} is not {_PLAIN[kind]}: {shown}"
    return next((misfit for part in parts if (misfit := _misfit(part[1], part[2], part[0]))), None)
