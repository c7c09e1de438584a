"""Reads documents from text files on disk."""

import dataclasses
import glob
import pathlib
from collections.abc import Iterator

from distilbert_jax.data.sources import readers
from distilbert_jax.data.sources.base import Source


@dataclasses.dataclass(frozen=True)
class TextFiles(Source):
    """Text files on disk.

    `.jsonl` and `.parquet` files give one document per record. Every other file is plain text, in which blank lines
    separate the documents. `.gz`, `.xz` and `.zst` files are decompressed while they are read.

    Attributes:
        paths: files, globs, and folders, which are searched with all their subfolders.
        field: the field or column of a record that holds its text.
    """

    paths: str | tuple[str, ...]
    _: dataclasses.KW_ONLY
    field: str = "text"

    def files(self) -> list[pathlib.Path]:
        """Returns all files, in the order of `paths` and sorted by name within each of them."""
        files: list[pathlib.Path] = []
        for path in (self.paths,) if isinstance(self.paths, str) else self.paths:
            names = glob.glob(path, recursive=True)
            if not names:
                raise ValueError(f"no such file, folder or glob: {path!r}")
            for name in sorted(map(pathlib.Path, names)):
                files += sorted(p for p in name.rglob("*") if p.is_file()) if name.is_dir() else [name]
        if not files:
            raise ValueError(f"no files in {self.paths!r}: name files, or folders that contain some")
        return files

    def read(self, path: pathlib.Path) -> Iterator[str]:
        """Yields the documents of one file."""
        return readers.read_documents(path, field=self.field)
