"""Reads one file, in any of the supported formats, as a stream of documents in constant memory."""

import contextlib
import io
import json
import lzma
import pathlib
import tempfile
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from distilbert_jax.data.sources import compression
from distilbert_jax.io import encodings, tables, untrusted
from distilbert_jax.messages import format_list

MAX_BLOCK_CHARACTERS = 2**20
"""A block of text, or a line in it, is cut at this length: memory stays constant on a file without a line break."""

MAX_RECORD_CHARACTERS = 2**24
"""Longest JSON line, longest line of a table, and longest text of a Parquet file, that is read."""

MAX_COLUMN_BYTES = 2**31
"""Largest text column of a row group that is read, decompressed."""

MAX_PARQUET_BYTES = 2**33
"""Largest Parquet file that is decompressed to be read, as in .parquet.gz."""

MAX_NAMED_FILES = 5
"""Files that an error message names."""


def read_documents(path: pathlib.Path, *, field: str) -> Iterator[str]:
    """Yields the documents of a file. The suffix of its name says the format, in any letter case.

    Args:
        path: a file of one of `FORMATS`, which may be compressed with gzip, xz or zstd.
        field: the field or column that holds the text of a record.

    Raises:
        ValueError: If the content is not what the suffix says. The message names the file and the line.
    """
    check_format([path])
    return FORMATS[_format_suffix(path)](path, field)


def check_format(paths: Sequence[pathlib.Path], *, folder: pathlib.Path | None = None) -> None:
    """Raises ValueError, which names the files, if the names of some do not say a format that can be read.

    Args:
        paths: the files.
        folder: the folder that was named, or None if the files were named themselves.
    """
    unknown = [path for path in paths if _format_suffix(path) not in FORMATS]
    if not unknown:
        return
    remedy = "give a file the suffix of what it contains: .txt for plain text, .jsonl for one JSON record per line"
    if folder:
        remedy += f". Or name only the files to read, for example with the pattern '{folder}/**/*.txt'"
    raise ValueError(
        f"{format_list(unknown, max_items=MAX_NAMED_FILES)} cannot be read, because the name does not "
        f"end in the suffix of a known format: {' '.join(FORMATS)}, or one of these and then "
        f"{' '.join(compression.OPENERS)}. If it is text, {remedy}"
    )


def _format_suffix(path: pathlib.Path) -> str:
    """Returns the suffix that says the format of a file: the last one in lower case, or the one before `.gz`."""
    name = path.with_suffix("") if compression.is_compressed(path) else path
    return name.suffix.lower()


def _read_lines(path: pathlib.Path, max_characters: int) -> Generator[str]:
    """Yields lines without their ends. A line longer than `max_characters` comes in pieces."""
    count = 0
    try:
        with compression.open_bytes(path) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig") as text:
            while line := text.readline(max_characters):
                count += 1
                if "\0" in line:
                    raise ValueError(
                        f"{path}, line {count}: a zero byte. {encodings.explain_encoding(path, line.encode())}"
                    )
                yield line.rstrip("\n")
    except UnicodeDecodeError as error:
        bad_byte = error.object[error.start]
        raise ValueError(
            f"{path}: not UTF-8: byte 0x{bad_byte:02x} in line {count + 1} or later. "
            f"{encodings.explain_encoding(path, error.object)}"
        ) from None
    except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        raise ValueError(
            f"{path}: cannot be read in line {count + 1} or later: {error}. If the file is damaged or incomplete, copy "
            "it again"
        ) from error


def _read_blocks(path: pathlib.Path, field: str) -> Iterator[str]:
    """Yields the blocks between blank lines of a text file, which has no fields."""
    block: list[str] = []
    size, is_first = 0, True
    for line in _read_lines(path, MAX_BLOCK_CHARACTERS):
        if block and (not line.strip() or size + len(line) > MAX_BLOCK_CHARACTERS):
            yield "\n".join(block)
            block, size = [], 0
        if line.strip():
            if is_first and _is_record(line):
                raise ValueError(
                    f"{path}: its first line is a JSON record, not prose. If each line is one, give the file the "
                    "suffix .jsonl"
                )
            is_first = False
            block.append(line)
            size += len(line)
    if block:
        yield "\n".join(block)


def _is_record(line: str) -> bool:
    """Returns whether a line is a JSON object."""
    try:
        return line.lstrip().startswith("{") and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _read_json(path: pathlib.Path, field: str) -> Iterator[str]:
    """Yields the text of each record of a `.json` file, which has to be JSON lines."""
    with contextlib.closing(_read_lines(path, MAX_RECORD_CHARACTERS)) as lines:
        first = next((line for line in lines if line.strip()), None)
    if first is not None and not _is_record(first):
        raise ValueError(
            f"{path}: its first line is not a JSON record, and a .json file is read only if each line is one. For a "
            "list of records, `jq -c '.[]'` writes them so"
        )
    yield from _read_jsonl(path, field)


def _read_jsonl(path: pathlib.Path, field: str) -> Iterator[str]:
    """Yields the text of each record of a JSON lines file."""
    for number, line in enumerate(_read_lines(path, MAX_RECORD_CHARACTERS), 1):
        if not line.strip():
            continue
        _check_line_length(line, path, number)
        record = untrusted.parse_json(line, Any, where=f"{path}, line {number}")
        if not isinstance(record, dict) or not isinstance(record.get(field), str):
            fields = ", ".join(record) if isinstance(record, dict) else type(record).__name__
            raise ValueError(f"{path}, line {number}: no text in field {field!r}; the record has {fields}")
        yield record[field]


def _check_line_length(line: str, path: pathlib.Path, number: int) -> None:
    """Raises ValueError if a line is so long that it was cut."""
    if len(line) >= MAX_RECORD_CHARACTERS:
        raise ValueError(
            f"{path}, line {number}: a record of {MAX_RECORD_CHARACTERS:,} characters or more; split it into several "
            "records"
        )


def _read_csv(path: pathlib.Path, field: str) -> Iterator[str]:
    """Yields the texts of a column of a table with commas between its columns."""
    return _read_table(path, field, separator=",")


def _read_tsv(path: pathlib.Path, field: str) -> Iterator[str]:
    """Yields the texts of a column of a table with tabs between its columns."""
    return _read_table(path, field, separator="\t")


def _read_table(path: pathlib.Path, field: str, *, separator: str) -> Iterator[str]:
    """Yields the cells of a column that are not blank. The first line names the columns; a cell may be in quotes."""

    def iter_lines() -> Iterator[str]:
        for number, line in enumerate(_read_lines(path, MAX_RECORD_CHARACTERS), 1):
            _check_line_length(line, path, number)
            yield line + "\n"

    columns, rows = tables.parse_csv(iter_lines(), where=str(path), separator=separator)
    if field not in columns:
        raise ValueError(
            f"{path}, line 1: no column {field!r}; the columns are {', '.join(map(repr, columns)) or 'none'}; name the "
            "column of the text with field=, or on the command line with corpus.sources.NAME.field=COLUMN"
        )
    for _, row in rows:
        if row[field].strip():
            yield row[field]


def _read_parquet(path: pathlib.Path, field: str) -> Iterator[str]:
    """Yields the texts of a Parquet file's column."""
    import pyarrow
    import pyarrow.parquet

    with _open_parquet(path) as source:
        try:
            metadata = pyarrow.parquet.read_metadata(source)
            schema = metadata.schema.to_arrow_schema()
            if schema.names.count(field) != 1:
                raise ValueError(f"{path}: no column {field!r}, only {', '.join(schema.names)}")
            column_type = str(schema.field(field).type)
            if not column_type.removeprefix("dictionary<values=").startswith(("string", "large_string")):
                raise ValueError(f"{path}: the column {field!r} is {column_type}, not text")
            _check_column_size(metadata, path, field)
            # A file may store a text that repeats once, in a dictionary. Reading it as one keeps memory as small.
            with pyarrow.parquet.ParquetFile(source, metadata=metadata, read_dictionary=[field]) as file:
                for batch in file.iter_batches(batch_size=1_000, columns=[field]):
                    yield from _read_column(batch.column(0), path)
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not a Parquet file that can be read: {error}") from None


@contextlib.contextmanager
def _open_parquet(path: pathlib.Path) -> Iterator[Any]:
    """Yields what Parquet is read from, which is not a stream: the file itself, or a decompressed temporary copy."""
    if not compression.is_compressed(path):
        yield path
        return
    with tempfile.TemporaryFile() as copy:
        try:
            with compression.open_bytes(path) as raw:
                while block := raw.read(compression.READ_BYTES):
                    if copy.tell() + len(block) > MAX_PARQUET_BYTES:
                        raise ValueError(
                            f"{path}: more than {MAX_PARQUET_BYTES:,} bytes after decompression; split the file, or "
                            "decompress it yourself"
                        )
                    copy.write(block)
            copy.seek(0)
        except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
            if isinstance(error, OSError) and error.errno:
                error.filename = error.filename or tempfile.gettempdir()
                raise
            raise ValueError(f"{path}: cannot be decompressed: {error}. Copy the file again") from None
        yield copy


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


FORMATS: dict[str, Callable[[pathlib.Path, str], Iterator[str]]] = {
    ".txt": _read_blocks,
    ".md": _read_blocks,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
}
"""Reads the documents of a file, given the field of the text, by the suffix of the file's name."""
