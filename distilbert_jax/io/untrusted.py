"""Reads files that others wrote: text, JSON and arrays. `tables` reads rows of columns.

Each file is read only up to a stated size, JSON is checked against a shape before it is used, and every error names the
file and the place in it.
"""

import collections
import functools
import json
import pathlib
import re
import stat
import tokenize
import types
import typing
from typing import Any

import numpy as np

from distilbert_jax.io import encodings
from distilbert_jax.messages import format_count, format_value

MAX_TEXT_BYTES = 2**30
MAX_JSON_BYTES = 2**26  # parsed JSON can take thirty times as much memory
MAX_FILE_NAME_CHARACTERS = 200
SAMPLE_BYTES = 2**16  # of a file and of its bad part, to find out its encoding

_TYPE_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false", types.NoneType: "null"}
_ARRAY_KIND_NAMES = {"u": "unsigned integers", "i": "integers"}
_UNSAFE_IN_FILE_NAME = re.compile(r"\.\.|[/\\\0]")


def read_text(path: pathlib.Path, *, max_bytes: int = MAX_TEXT_BYTES, newline: str | None = None) -> str:
    """Reads a text file in UTF-8.

    Args:
        path: the file.
        max_bytes: the largest file that is read.
        newline: as for `open`.

    Raises:
        ValueError: if it is not a regular file, is too large, is not UTF-8 or has a zero byte; the message names the
            line.
    """
    file_stat = path.stat()
    if not stat.S_ISREG(file_stat.st_mode):
        raise ValueError(f"{path} is not a regular file")
    if file_stat.st_size > max_bytes:
        raise ValueError(
            f"{path} has {file_stat.st_size:,} bytes, but at most {max_bytes:,} are read: check that it is the right "
            "file"
        )
    try:
        with open(path, encoding="utf-8-sig", newline=newline) as file:
            text = file.read()
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        # The file may be large. The second part begins at an even place, as the characters of UTF-16 do.
        bad = error.start // 2 * 2
        sample = error.object[:SAMPLE_BYTES] + error.object[bad : bad + SAMPLE_BYTES]
        raise ValueError(
            f"{path}, line {line}: not UTF-8: byte 0x{error.object[error.start]:02x}. "
            f"{encodings.explain_encoding(path, sample)}"
        ) from None
    if "\0" in text:
        index = text.index("\0")
        line = text.count("\n", 0, index) + 1
        sample = f"{text[:SAMPLE_BYTES]}{text[index : index + SAMPLE_BYTES]}".encode()
        raise ValueError(f"{path}, line {line}: a zero byte. {encodings.explain_encoding(path, sample)}")
    return text


def read_json(path: pathlib.Path, shape: Any, *, what: str | None = None, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Reads a JSON file of at most `max_bytes` and checks its shape, as `parse_json` does."""
    return parse_json(read_text(path, max_bytes=max_bytes), shape, where=str(path), what=what)


def parse_json(content: str, shape: Any, *, where: str, what: str | None = None) -> Any:
    """Parses JSON and checks its shape.

    Args:
        content: the JSON text.
        shape: the type that the value must have: a TypedDict, list[…], dict[str, …], a union, str, int, float, bool,
            None or Any, nested as needed.
        where: the file, or the file and the line, for error messages.
        what: what the text should be, for error messages, such as "an index of safetensors".

    Raises:
        ValueError: if the text is not JSON, has another shape, or an object has a field twice.
    """
    try:
        parsed = json.loads(content, object_pairs_hook=_make_object)
        # Half of a surrogate pair is valid JSON, but it cannot be encoded as text.
        if re.search(r"\\u[dD][89a-fA-F]", content):
            json.dumps(parsed, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError(f"{where}: not {what or 'JSON that can be read'}: it is nested too deeply") from None
    except _RepeatedFieldError as error:
        raise ValueError(f"{where}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{where}: not {what or 'JSON'}: {error}") from None
    check_shape(parsed, shape, where=where, what=what)
    return parsed


class _RepeatedFieldError(ValueError):
    """An object in JSON has a field twice, so that it is not clear which value is meant."""


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns an object of JSON. Raises _RepeatedFieldError if it has a field twice."""
    parsed = dict(pairs)
    if len(parsed) < len(pairs):
        counts = collections.Counter(name for name, _ in pairs)
        repeated = counts.most_common(1)[0][0]
        raise _RepeatedFieldError(f"the field {repeated!r} occurs more than once; keep one of them")
    return parsed


def check_shape(parsed: Any, shape: Any, *, where: str, what: str | None = None) -> None:
    """Raises ValueError unless parsed JSON has a shape; the arguments are those of `parse_json`."""
    if mismatch := _find_mismatch(parsed, shape, ""):
        raise ValueError(f"{where}: not {what}: {mismatch}" if what else f"{where}: {mismatch}")


def load_array(path: pathlib.Path, *, kind: str, axes: int) -> np.ndarray:
    """Opens a .npy file as a memory map. Pickled objects and archives are refused.

    Args:
        path: the file.
        kind: NumPy's letter for the kind of type that is expected: "u" for unsigned integers, "i" for integers.
        axes: the number of axes that is expected.

    Raises:
        ValueError: if the file is not an array, or not one of this kind.
    """
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, TypeError, EOFError, SyntaxError, tokenize.TokenError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path}: not an array that can be read: {error}") from None
    if array.dtype.kind != kind or array.ndim != axes:
        raise ValueError(
            f"{path}: the array is {array.dtype} with {format_count(array.ndim, 'axis', 'axes')}, but "
            f"{_ARRAY_KIND_NAMES[kind]} with {format_count(axes, 'axis', 'axes')} are needed; the file is damaged, "
            "make it again"
        )
    return array


def check_file_name(name: str, *, what: str) -> str:
    """Returns a name that is to become the name of a file or folder.

    Args:
        name: the name.
        what: what the name is of, for the error message, such as "the task's name".

    Raises:
        ValueError: if the name is empty, too long, or could lead to another folder.
    """
    if (
        not name
        or _UNSAFE_IN_FILE_NAME.search(name)
        or name in (".", "~")
        or not name.isprintable()
        or len(name) > MAX_FILE_NAME_CHARACTERS
    ):
        raise ValueError(
            f"{what} {name[:MAX_FILE_NAME_CHARACTERS]!r} cannot name a file: it must be one to "
            f"{MAX_FILE_NAME_CHARACTERS} characters without / or \\ or .."
        )
    return name


@functools.cache
def _type_hints(kind: Any) -> dict[str, Any]:
    """Returns the field types of a TypedDict. They are cached because large files contain many."""
    return typing.get_type_hints(kind)


def _find_mismatch(x: Any, kind: Any, field_path: str) -> str | None:
    """Returns a text that says where and how parsed JSON differs from a type, or None if it does not.

    Args:
        x: the value.
        kind: the type, as for `parse_json`.
        field_path: the place of the value in the file, such as "shards.train[0]"; "" for the file itself.
    """
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    name = field_path or "it"
    if kind is Any:
        return None
    if origin in (typing.Union, types.UnionType):
        mismatches = [_find_mismatch(x, option, field_path) for option in args]
        return mismatches[0] if all(mismatches) else None
    if typing.is_typeddict(kind) or origin is dict:
        if not isinstance(x, dict):
            return f"{field_path} is not an object" if field_path else "not a JSON object"
        missing = sorted(getattr(kind, "__required_keys__", frozenset()) - x.keys())
        if missing:
            return f"{name} has no field {missing[0]!r}"
        hints = _type_hints(kind) if typing.is_typeddict(kind) else dict.fromkeys(x, args[1])
        children = [
            (x[key], hint, f"{field_path}.{key}" if field_path else key) for key, hint in hints.items() if key in x
        ]
    elif origin is list:
        if not isinstance(x, list):
            return f"{name} is not a list"
        children = [(child, args[0], f"{field_path}[{i}]") for i, child in enumerate(x)]
    else:
        # JSON does not distinguish 1 from 1.0, and an integer beyond 64 bits would overflow later.
        is_of_type = type(x) is kind or (kind is float and type(x) is int)
        if is_of_type and not (type(x) is int and abs(x) >= 2**63):
            return None
        shown = "a list" if isinstance(x, list) else "an object" if isinstance(x, dict) else format_value(x)
        return f"{name} is not {_TYPE_NAMES[kind]}: {shown}"
    return next((mismatch for child in children if (mismatch := _find_mismatch(*child))), None)
