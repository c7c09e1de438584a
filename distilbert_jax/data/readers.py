"""One file, any of the formats text comes in, as a stream of documents."""

import gzip
import io
import json
import lzma
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

LONGEST = 2**20
"""Characters of a text block, or of a line in it, after which it is cut: memory stays constant on a file without a
line break.
"""

LONGEST_RECORD = 2**26  # bytes of one JSON line


def documents(path: pathlib.Path, *, field: str) -> Iterator[str]:
    """The documents of a file, by its suffix. Raises ValueError, which names the file and the place, where it is not
    what its suffix says.
    """
    suffixes = [suffix for suffix in path.suffixes if suffix not in _PACKED]
    kind = suffixes[-1] if suffixes else ""
    if kind == ".parquet":
        yield from _parquet(path, field)
    elif kind == ".jsonl":
        yield from _jsonl(path, field)
    else:
        yield from _blocks(path)


def _plain(path: pathlib.Path) -> Any:
    return open(path, "rb")


def _zstd(path: pathlib.Path) -> Any:
    import pyarrow  # the zstandard package reads a truncated file as if it were whole

    return pyarrow.input_stream(path, compression="zstd")


_PACKED: dict[str, Callable[[pathlib.Path], Any]] = {".gz": gzip.open, ".xz": lzma.open, ".zst": _zstd}


def _lines(path: pathlib.Path, limit: int) -> Iterator[str]:
    """Lines without their ends; one longer than `limit` comes in pieces."""
    count = 0
    try:
        with _PACKED.get(path.suffix, _plain)(path) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig") as text:
            while line := text.readline(limit):
                count += 1
                if "\0" in line:
                    raise ValueError(f"{path}, line {count}: a zero byte: this is a binary file, not text")
                yield line.rstrip("\n")
    except UnicodeDecodeError as error:
        bad = error.object[error.start]
        raise ValueError(
            f"{path}: not UTF-8: byte 0x{bad:02x} after line {count}. Convert it (iconv -f latin1 -t utf-8), "
            "or leave it out if it is no text"
        ) from None
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, OSError) as error:
        raise ValueError(f"{path}: cannot be read after line {count}: {error}") from error


def _blocks(path: pathlib.Path) -> Iterator[str]:
    block: list[str] = []
    size = 0
    for line in _lines(path, LONGEST):
        if block and (not line.strip() or size + len(line) > LONGEST):
            yield "\n".join(block)
            block, size = [], 0
        if line.strip():
            block.append(line)
            size += len(line)
    if block:
        yield "\n".join(block)


def _jsonl(path: pathlib.Path, field: str) -> Iterator[str]:
    for number, line in enumerate(_lines(path, LONGEST_RECORD), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: not JSON: {error}") from None
        if not isinstance(record, dict) or not isinstance(record.get(field), str):
            fields = ", ".join(record) if isinstance(record, dict) else type(record).__name__
            raise ValueError(f"{path}, line {number}: no text in field {field!r}; the record has {fields}")
        yield record[field]


def _parquet(path: pathlib.Path, field: str) -> Iterator[str]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            if field not in file.schema_arrow.names:
                raise ValueError(f"{path}: no column {field!r}, only {', '.join(file.schema_arrow.names)}")
            for batch in file.iter_batches(batch_size=1_000, columns=[field]):
                yield from (text for text in batch.column(0).to_pylist() if text)
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path}: not a Parquet file that can be read: {error}") from None
