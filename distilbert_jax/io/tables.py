"""Reads tables that others wrote: CSV, tab-separated values and JSON lines.

There is one rule for quotes in CSV and TSV. A cell that begins with a quote ends with one, and a quote inside it is
written twice; in other cells, quotes are text, but only in pairs. What does not follow this rule is refused, because
another reading would join rows or cut cells without a word. Every row of such a file has an even number of quotes,
therefore a row ends at the first end of a line that has an even number of quotes before it.

Some programs write a backslash before each quote instead. Such a file is always refused: its first quote of this kind
is in a cell without quotes, or closes a cell too early, which is where a cell could end or where more text follows.
"""

import collections
import io
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from distilbert_jax.io import untrusted
from distilbert_jax.messages import format_count, format_value

MAX_ROW_CHARACTERS = 2**24

_QUOTED_CELL = re.compile(r'"((?:[^"]++|"")*+)"')
_AMBIGUOUS_BACKSLASH = re.compile(r'\\"(?:"[,\t\r\n]|$)')
_SEPARATOR_NAMES = {",": "a comma", "\t": "a tab", ";": "a semicolon", "|": "a vertical bar"}
_SUFFIX_HINTS = {",": ", or name it .csv", "\t": ", or name it .tsv"}


def read_csv(path: pathlib.Path, *, separator: str = ",") -> Iterator[tuple[int, dict[str, str]]]:
    """Yields (line number, {column: cell}) for each row of a file whose first line names the columns.

    Args:
        path: the file.
        separator: what is between two cells: a comma, or a tab for tab-separated values.

    Raises:
        ValueError: the file has another format; the message names the line.
    """
    lines = io.StringIO(untrusted.read_text(path, newline=""), newline="")
    yield from parse_csv(lines, where=str(path), separator=separator)[1]


def parse_csv(
    lines: Iterable[str], *, where: str, separator: str = ","
) -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    """Parses a table whose first line names the columns.

    Spaces around the name of a column are removed; cells are kept as they are. Columns without a name are left out.

    Args:
        lines: the lines with their ends, as a file opened with `newline=""` gives them. They are read as they are
            needed, so the memory is that of a row.
        where: the file, for error messages.
        separator: what is between two cells.

    Returns:
        (the columns, an iterator over (line number, {column: cell}) of the rows). An empty table has no columns.

    Raises:
        ValueError: a quote has no partner, a row has other columns than the first line, or the first line names a
            column twice or has another separator; the message names the line. For a row, the iterator raises it.
    """
    rows = _iter_rows(lines, where)
    number, first = next(rows, (1, ""))
    columns = _check_columns(_split_row(first, where, number, separator), f"{where}, line {number}", separator)
    return [name for name in columns if name], _iter_cells(rows, columns, where, separator)


def _iter_cells(
    rows: Iterator[tuple[int, str]], columns: Sequence[str], where: str, separator: str
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields (line number, {column: cell}) for each row. Raises ValueError if a row has more or fewer cells."""
    for number, row in rows:
        cells = _split_row(row, where, number, separator)
        if len(cells) != len(columns):
            raise ValueError(
                f"{where}, line {number}: this row does not have the columns of the first line: it has {len(cells)} "
                f"cells, and the first line has {len(columns)}. Put a text that contains {_SEPARATOR_NAMES[separator]} "
                "in quotes"
            )
        yield number, {name: cell for name, cell in zip(columns, cells, strict=True) if name}


def read_json_lines(path: pathlib.Path, shape: Any, *, what: str | None = None) -> Iterator[tuple[int, Any]]:
    """Yields (line number, object) for each line of JSON; empty lines are skipped.

    Spaces around the name of a field are removed.

    Args:
        path: the file.
        shape: the type that each object must have, as for `untrusted.parse_json`.
        what: what a line should be, for error messages.

    Raises:
        ValueError: a line is not an object of this shape, or a text in it has a zero byte; the message names the line.
    """
    # Not splitlines(): a text may contain other line breaks of Unicode.
    for number, line in enumerate(untrusted.read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        row = untrusted.parse_json(line, Any, where=where, what=what)
        if isinstance(row, dict):
            names = [name.strip() for name in row]
            check_unique(names, where)
            row = dict(zip(names, row.values(), strict=True))
        untrusted.check_shape(row, shape, where=where, what=what)
        zero_byte = [name for name, value in row.items() if isinstance(value, str) and "\0" in value]
        if zero_byte:
            raise ValueError(f"{where}: the field {zero_byte[0]!r} has a zero byte (\\u0000); remove it")
        yield number, row


def check_unique(columns: Sequence[str], where: str) -> None:
    """Raises ValueError if two columns have the same name."""
    repeated = [name for name, count in collections.Counter(columns).items() if name and count > 1]
    if repeated:
        raise ValueError(f"{where}: there is more than one column {repeated[0]!r}; keep one of them or rename it")


def _iter_rows(lines: Iterable[str], where: str) -> Iterator[tuple[int, str]]:
    """Yields (number of its first line, the text of a row). Lines between rows that are empty are left out."""
    row: list[str] = []
    size = num_quotes = first = 0
    usual_end = ""
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            raise ValueError(f"{where}, line {number}: a zero byte; remove it, or the file if it is not a text")
        first = first if row else number
        row.append(line)
        num_quotes += line.count('"')
        size += len(line)
        if size > MAX_ROW_CHARACTERS:
            break
        if num_quotes % 2 == 0:
            end = line[-1] if line[-1] in "\r\n" else usual_end
            if usual_end not in ("", end):
                raise ValueError(
                    f"{where}, line {number}: a carriage return (\\r) ends some lines and a line feed (\\n) others. If "
                    "the carriage return belongs to a text, put this cell in quotes"
                )
            usual_end = end
            if line.rstrip("\r\n") or len(row) > 1:
                yield first, "".join(row)
            row, size, num_quotes = [], 0, 0
    if size > MAX_ROW_CHARACTERS and num_quotes % 2 == 0:
        raise ValueError(f"{where}, line {first}: a row of more than {MAX_ROW_CHARACTERS:,} characters; shorten it")
    if row:
        # A row with an odd number of quotes. `_split_row` finds the wrong one.
        yield first, "".join(row)


def _split_row(row: str, where: str, number: int, separator: str) -> list[str]:
    """Returns the cells of a row.

    Args:
        row: the text of the row.
        where: the file, for error messages.
        number: the number of the first line of the row.
        separator: what is between two cells.

    Raises:
        ValueError: a quote has no partner, or is neither around a cell nor written twice.
    """
    row = row.rstrip("\r\n")
    if '"' not in row:
        return row.split(separator)
    cells: list[str] = []
    start = 0
    while start <= len(row):
        match = _QUOTED_CELL.match(row, start)
        if match:
            end = match.end()
            cell = match[1].replace('""', '"')
        else:
            end = row.find(separator, start)
            end = len(row) if end < 0 else end
            cell = row[start:end]
        if problem := _find_quote_problem(row, start, end, separator):
            raise ValueError(f"{where}, line {_line_at(row, start, number)}: {problem}")
        cells.append(cell)
        start = end + 1
    return cells


def _find_quote_problem(row: str, start: int, end: int, separator: str) -> str | None:
    """Returns what is wrong with the quotes of a cell, and how to correct it; None if they are right.

    Args:
        row: the text of the row.
        start: the index of the first character of the cell.
        end: the index after its last character: for a cell in quotes, after the closing quote.
        separator: what is between two cells.
    """
    cell = row[start:end]
    is_quoted = bool(_QUOTED_CELL.fullmatch(cell))
    follows = row[end:].partition(separator)[0] if is_quoted else ""
    hint = 'inside a cell in quotes, a quote is written twice: ""'
    if '\\"' in row and (follows or (not is_quoted and cell.count('"') % 2)):
        hint += ', not with a backslash: \\"'
    if follows:
        closing_line = row.count("\n", start, end)
        where_closed = f"closed {format_count(closing_line, 'line')} below" if closing_line else "closed"
        return (
            f"the quote that begins {format_value(cell)} is {where_closed}, but {format_value(follows)} follows it. "
            f"Check whether a quote is missing; {hint}"
        )
    if is_quoted and _AMBIGUOUS_BACKSLASH.search(cell):
        return (
            f"the cell {format_value(cell)} has a backslash before a quote where a cell could end, so it is not clear "
            f"whether the quote belongs to the text; {hint}. If the backslash belongs to the text, use JSON lines"
        )
    if is_quoted:
        return None
    if cell.startswith('"'):
        return f"the quote that begins {format_value(row[start:])} is never closed. Close it or leave it out; {hint}"
    if '\\"' in cell:
        return f"the cell {format_value(cell)} has a quote with a backslash before it. Put the cell in quotes; {hint}"
    if cell.count('"') % 2:
        return f"the cell {format_value(cell)} has a quote without a partner. Put the cell in quotes; {hint}"
    if cell.lstrip().startswith('"'):
        return f"the cell {format_value(cell)} has a space before its quote; remove the space"
    return None


def _line_at(row: str, index: int, number: int) -> int:
    """Returns the number of the line of a character in a row whose first line has this number."""
    return number + row.count("\n", 0, index)


def _check_columns(cells: Sequence[str], where: str, separator: str) -> list[str]:
    """Returns the names of the columns, without spaces around them. A name may be empty.

    Raises:
        ValueError: a name occurs twice, or the names are separated by something else.
    """
    columns = [cell.strip() for cell in cells]
    others = [other for other in _SEPARATOR_NAMES if other in columns[0]] if len(columns) == 1 else []
    if others:
        raise ValueError(
            f"{where}: the first line is {format_value(columns[0])}, where {_SEPARATOR_NAMES[others[0]]} is between "
            f"the columns, but this file is read with {_SEPARATOR_NAMES[separator]} between them. Write it with "
            f"{_SEPARATOR_NAMES[separator]}" + _SUFFIX_HINTS.get(others[0], "")
        )
    check_unique(columns, where)
    return columns
