"""One file, any of the formats text comes in, as a stream of documents."""

import gzip
import io
import lzma
import pathlib
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from distilbert_jax.io import untrusted

LONGEST = 2**20
"""Characters of a text block, or of a line in it, after which it is cut: memory stays constant on a file without a
line break.
"""

LONGEST_RECORD = 2**24  # characters of one JSON line, or of one text of a Parquet file
MOST_COLUMN = 2**31  # bytes of the text of one row group, unpacked
MOST_WINDOW = 2**28  # bytes of what xz looks back on; its header may ask for sixteen times that
CHUNK = 2**16  # bytes read at once


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


class _Xz(io.RawIOBase):
    """What `lzma.open` gives, with a bound on memory."""

    def __init__(self, path: pathlib.Path):
        self._file = open(path, "rb")  # noqa: SIM115
        self._stream = lzma.LZMADecompressor(memlimit=MOST_WINDOW)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            packed = b""
            if self._stream.eof:  # another one may follow, after padding
                packed = self._stream.unused_data.lstrip(b"\0") or self._file.read(CHUNK).lstrip(b"\0")
                if not packed:
                    return 0
                self._stream = lzma.LZMADecompressor(memlimit=MOST_WINDOW)
            elif self._stream.needs_input and not (packed := self._file.read(CHUNK)):
                raise EOFError("it ends too early")
            if unpacked := self._stream.decompress(packed, len(buffer)):
                buffer[: len(unpacked)] = unpacked
                return len(unpacked)

    def close(self) -> None:
        self._file.close()
        super().close()


def _xz(path: pathlib.Path) -> Any:
    return io.BufferedReader(_Xz(path))


_PACKED: dict[str, Callable[[pathlib.Path], Any]] = {".gz": gzip.open, ".xz": _xz, ".zst": _zstd}


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
    except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
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
        if len(line) >= LONGEST_RECORD:
            raise ValueError(
                f"{path}, line {number}: a record of {LONGEST_RECORD:,} characters and more; split it into several"
            )
        record = untrusted.parse_json(line, Any, where=f"{path}, line {number}")
        if not isinstance(record, dict) or not isinstance(record.get(field), str):
            fields = ", ".join(record) if isinstance(record, dict) else type(record).__name__
            raise ValueError(f"{path}, line {number}: no text in field {field!r}; the record has {fields}")
        yield record[field]


def _parquet(path: pathlib.Path, field: str) -> Iterator[str]:
    import pyarrow
    import pyarrow.parquet

    try:
        about = pyarrow.parquet.read_metadata(path)
        schema = about.schema.to_arrow_schema()
        if schema.names.count(field) != 1:
            raise ValueError(f"{path}: no column {field!r}, only {', '.join(schema.names)}")
        kind = str(schema.field(field).type)
        if not kind.removeprefix("dictionary<values=").startswith(("string", "large_string")):
            raise ValueError(f"{path}: the column {field!r} is {kind}, not text")
        _demand_bounded(about, path, field)
        # A text that repeats stands in a dictionary once: so it is in memory, too.
        with pyarrow.parquet.ParquetFile(path, metadata=about, read_dictionary=[field]) as file:
            for batch in file.iter_batches(batch_size=1_000, columns=[field]):
                yield from _texts(batch.column(0), path)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a Parquet file that can be read: {error}") from None


def _demand_bounded(about: Any, path: pathlib.Path, field: str) -> None:
    """ValueError where a row group is too large to be unpacked."""
    for group in range(about.num_row_groups):
        columns = (about.row_group(group).column(i) for i in range(about.num_columns))
        size = max((column.total_uncompressed_size for column in columns if column.path_in_schema == field), default=0)
        if not 0 <= size <= MOST_COLUMN:
            raise ValueError(
                f"{path}: {size:,} bytes of {field!r} in one row group, and at most {MOST_COLUMN:,} are unpacked; "
                "write it with smaller row groups"
            )


def _texts(column: Any, path: pathlib.Path) -> Iterator[str]:
    for value in column:
        text = value.as_py()
        if text and len(text) > LONGEST_RECORD:
            raise ValueError(f"{path}: a text of {len(text):,} characters, and at most {LONGEST_RECORD:,} are read")
        if text:
            yield text
