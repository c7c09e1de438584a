"""Reads documents from text files on disk."""

import dataclasses
import glob
import pathlib
from collections.abc import Iterator

from distilbert_jax.data.sources import readers
from distilbert_jax.data.sources.base import Source


@dataclasses.dataclass(frozen=True)
class TextFiles(Source):
    """Text on disk: files, folders (searched whole) and globs.

    `.jsonl` and `.parquet` files give the value of `field`, one document a record. Anything else is text: a document is
    a block between blank lines. `.gz`, `.xz` and `.zst` are unpacked on the way.
    """

    paths: str | tuple[str, ...]
    _: dataclasses.KW_ONLY
    field: str = "text"

    def files(self) -> list[pathlib.Path]:
        found: list[pathlib.Path] = []
        for path in (self.paths,) if isinstance(self.paths, str) else self.paths:
            names = glob.glob(path, recursive=True)
            if not names:
                raise ValueError(f"no such file, folder or glob: {path!r}")
            for name in sorted(map(pathlib.Path, names)):
                found += sorted(p for p in name.rglob("*") if p.is_file()) if name.is_dir() else [name]
        if not found:
            raise ValueError(f"no files in {self.paths!r}")
        return found

    def read(self, path: pathlib.Path) -> Iterator[str]:
        return readers.documents(path, field=self.field)
