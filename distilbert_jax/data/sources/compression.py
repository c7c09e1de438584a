"""Opens files that may be compressed with gzip, xz or zstd, as streams of bytes in constant memory."""

import gzip
import io
import lzma
import pathlib
from collections.abc import Callable
from typing import Any

MAX_XZ_MEMORY_BYTES = 2**28
"""Memory for decompressing xz. The header of a file may ask for sixteen times as much."""

READ_BYTES = 2**16
"""Bytes of an xz file that are read at a time."""


def open_bytes(path: pathlib.Path) -> Any:
    """Opens a file for reading, and decompresses it if the suffix of its name says that it is compressed."""
    return OPENERS.get(path.suffix.lower(), _open_plain)(path)


def is_compressed(path: pathlib.Path) -> bool:
    """Returns whether the suffix of a name says that the file is compressed."""
    return path.suffix.lower() in OPENERS


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


OPENERS: dict[str, Callable[[pathlib.Path], Any]] = {".gz": gzip.open, ".xz": _open_xz, ".zst": _open_zstd}
"""Opens a compressed file, by suffix."""
