"""Reads one file, in any of the supported formats, as a stream of documents in constant memory."""

import gzip
import io
import lzma
import pathlib
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from distilbert_jax.io import untrusted

MAX_BLOCK_CHARACTERS = 2**20
"""A block of text, or a line in it, is cut at this length: memory stays constant on a file without a line break."""

MAX_RECORD_CHARACTERS = 2**24
"""Longest JSON line, and longest text of a Parquet file, that is read."""

MAX_COLUMN_BYTES = 2**31
"""Largest text column of a row group that is read, decompressed."""

MAX_XZ_MEMORY_BYTES = 2**28
"""Memory for decompressing xz. The header of a file may ask for sixteen times as much."""

READ_BYTES = 2**16
"""Bytes of an xz file that are read at a time."""


def read_documents(path: pathlib.Path, *, field: str) -> Iterator[str]:
    """Yields the documents of a file. The suffix of its name says the format.

    Args:
        path: `.parquet`, `.jsonl`, or anything else for plain text; text and JSONL may be compressed with gzip, xz or
            zstd.
        field: the field or column that holds the text.

    Raises:
        ValueError: If the content is not what the suffix says. The message names the file and the line.
    """
    suffixes = [suffix for suffix in path.suffixes if suffix not in _OPENERS]
    suffix = suffixes[-1] if suffixes else ""
    if suffix == ".parquet":
        yield from _read_parquet(path, field)
    elif suffix == ".jsonl":
        yield from _read_jsonl(path, field)
    else:
        yield from _read_blocks(path)


def _open_plain(path: pathlib.Path) -> Any:
    """Opens a file that is not compressed."""
    return open(path, "rb")


def _open_zstd(path: pathlib.Path) -> Any:
    """Opens a zstd file."""
    import pyarrow  # the zstandard package reads a truncated file without an error

    return pyarrow.input_stream(path, compression="zstd")


class _XzFile(io.RawIOBase):
    """The decompressed bytes of an xz file, as `lzma.open` gives them, but with bounded memory."""

    def __init__(self, path: pathlib.Path):
        """Opens the file."""
        self._file = open(path, "rb")  # noqa: SIM115
        self._decompressor = lzma.LZMADecompressor(memlimit=MAX_XZ_MEMORY_BYTES)

    def readable(self) -> bool:
        """Returns True: `io` asks before it reads."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills `buffer` from its beginning and returns the number of bytes; 0 at the end of the file."""
        while True:
            compressed = b""
            if self._decompressor.eof:
                # An xz file may hold several streams, with zero bytes between them.
                compressed = self._decompressor.unused_data.lstrip(b"\0") or self._file.read(READ_BYTES).lstrip(b"\0")
                if not compressed:
                    return 0
                self._decompressor = lzma.LZMADecompressor(memlimit=MAX_XZ_MEMORY_BYTES)
            elif self._decompressor.needs_input and not (compressed := self._file.read(READ_BYTES)):
                raise EOFError("the file ends too early")
            if content := self._decompressor.decompress(compressed, len(buffer)):
                buffer[: len(content)] = content
                return len(content)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
        super().close()


def _open_xz(path: pathlib.Path) -> Any:
    """Opens an xz file."""
    return io.BufferedReader(_XzFile(path))


_OPENERS: dict[str, Callable[[pathlib.Path], Any]] = {".gz": gzip.open, ".xz": _open_xz, ".zst": _open_zstd}


def _read_lines(path: pathlib.Path, max_characters: int) -> Iterator[str]:
    """Yields lines without their ends. A line longer than `max_characters` comes in pieces."""
    count = 0
    try:
        with _OPENERS.get(path.suffix, _open_plain)(path) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig") as text:
            while line := text.readline(max_characters):
                count += 1
                if "\0" in line:
                    raise ValueError(f"{path}, line {count}: a zero byte: this is a binary file, not text")
                yield line.rstrip("\n")
    except UnicodeDecodeError as error:
        bad_byte = error.object[error.start]
        raise ValueError(
            f"{path}: not UTF-8: byte 0x{bad_byte:02x} in line {count + 1} or later. Convert the file "
            "(iconv -f latin1 -t utf-8) or, if it is not text, remove it from the source"
        ) from None
    except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        raise ValueError(
            f"{path}: cannot be read in line {count + 1} or later: {error}. If the file is damaged or incomplete, copy "
            "it again"
        ) from error


def _read_blocks(path: pathlib.Path) -> Iterator[str]:
    """Yields the blocks between blank lines of a text file."""
    block: list[str] = []
    size = 0
    for line in _read_lines(path, MAX_BLOCK_CHARACTERS):
        if block and (not line.strip() or size + len(line) > MAX_BLOCK_CHARACTERS):
            yield "\n".join(block)
            block, size = [], 0
        if line.strip():
            block.append(line)
            size += len(line)
    if block:
        yield "\n".join(block)


def _read_jsonl(path: pathlib.Path, field: str) -> Iterator[str]:
    """Yields the text of each record of a JSONL file."""
    for number, line in enumerate(_read_lines(path, MAX_RECORD_CHARACTERS), 1):
        if not line.strip():
            continue
        if len(line) >= MAX_RECORD_CHARACTERS:
            raise ValueError(
                f"{path}, line {number}: a record of {MAX_RECORD_CHARACTERS:,} characters or more; split it into "
                "several records"
            )
        record = untrusted.parse_json(line, Any, where=f"{path}, line {number}")
        if not isinstance(record, dict) or not isinstance(record.get(field), str):
            fields = ", ".join(record) if isinstance(record, dict) else type(record).__name__
            raise ValueError(f"{path}, line {number}: no text in field {field!r}; the record has {fields}")
        yield record[field]


def _read_parquet(path: pathlib.Path, field: str) -> Iterator[str]:
    """Yields the texts of a Parquet file's column."""
    import pyarrow
    import pyarrow.parquet

    try:
        metadata = pyarrow.parquet.read_metadata(path)
        schema = metadata.schema.to_arrow_schema()
        if schema.names.count(field) != 1:
            raise ValueError(f"{path}: no column {field!r}, only {', '.join(schema.names)}")
        column_type = str(schema.field(field).type)
        if not column_type.removeprefix("dictionary<values=").startswith(("string", "large_string")):
            raise ValueError(f"{path}: the column {field!r} is {column_type}, not text")
        _check_column_size(metadata, path, field)
        # A file may store a text that repeats once, in a dictionary. Reading it as one keeps memory as small.
        with pyarrow.parquet.ParquetFile(path, metadata=metadata, read_dictionary=[field]) as file:
            for batch in file.iter_batches(batch_size=1_000, columns=[field]):
                yield from _read_column(batch.column(0), path)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a Parquet file that can be read: {error}") from None


def _check_column_size(metadata: Any, path: pathlib.Path, field: str) -> None:
    """Raises ValueError if the text of a row group is too large to be decompressed."""
    for group in range(metadata.num_row_groups):
        columns = (metadata.row_group(group).column(i) for i in range(metadata.num_columns))
        size = max((column.total_uncompressed_size for column in columns if column.path_in_schema == field), default=0)
        if not 0 <= size <= MAX_COLUMN_BYTES:
            raise ValueError(
                f"{path}: the column {field!r} has {size:,} bytes in one row group, and at most {MAX_COLUMN_BYTES:,} "
                "are read; write the file with smaller row groups"
            )


def _read_column(column: Any, path: pathlib.Path) -> Iterator[str]:
    """Yields the texts of a column that are neither null nor empty."""
    for value in column:
        text = value.as_py()
        if text and len(text) > MAX_RECORD_CHARACTERS:
            raise ValueError(
                f"{path}: a text of {len(text):,} characters, and at most {MAX_RECORD_CHARACTERS:,} are read; split it "
                "into several records"
            )
        if text:
            yield text
