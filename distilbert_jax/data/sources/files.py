"""Reads documents from text files on disk."""

import dataclasses
import glob
import itertools
import pathlib
from collections.abc import Iterator

from distilbert_jax.data.sources import readers
from distilbert_jax.data.sources.base import Source
from distilbert_jax.io.files import expand_path

HUB_CARD = "README.md"
"""The name of a dataset's description, in the folder of a dataset that was downloaded from the Hub."""

HUB_MARKS = (".gitattributes", ".cache/huggingface")
"""What a download from the Hub leaves next to a dataset's description."""


@dataclasses.dataclass(frozen=True)
class TextFiles(Source):
    """Text files on disk.

    `.txt` and `.md` files are plain text, in which blank lines separate the documents. `.jsonl`, `.ndjson`, `.parquet`,
    `.csv` and `.tsv` files give one document per record, and so do `.json` files with a record in each line. All are
    decompressed while they are read if `.gz`, `.xz` or `.zst` follows.

    In folders, hidden files and folders are skipped, and so is what a download from the Hub leaves there: `.cache`,
    `.gitattributes` and the README.md next to them.

    Attributes:
        paths: files, folders, which are searched with all their subfolders, and globs. A path that exists is not taken
            for a glob, and `~` is the home folder.
        field: the field or column of a record that holds its text.
    """

    paths: str | tuple[str, ...]
    _: dataclasses.KW_ONLY
    field: str = "text"

    def files(self) -> list[pathlib.Path]:
        """Returns all files, in the order of `paths` and sorted by name within each of them."""
        for text in self._texts():
            if not _match(text):
                raise ValueError(f"no such file, folder or glob: {text!r}")
        files = self._list()[0]
        if not files:
            raise ValueError(f"no files in {self.paths!r}: name files, or folders that contain some")
        return files

    def read(self, path: pathlib.Path) -> Iterator[str]:
        """Yields the documents of one file."""
        return readers.read_documents(path, field=self.field)

    def local_files(self) -> list[pathlib.Path]:
        """Returns the files that exist of those that `paths` name."""
        return self._list()[0]

    def folders(self) -> list[pathlib.Path]:
        """Returns the folders that `paths` name, and those in which a glob with ** begins to search."""
        folders = []
        for text in self._texts():
            folders += [path for path in _match(text) if path.is_dir()]
            if "**" in text and not expand_path(text).exists():
                fixed = itertools.takewhile(lambda part: not glob.has_magic(part), expand_path(text).parts)
                folders.append(pathlib.Path(*fixed))
        return folders

    def skipped(self) -> list[pathlib.Path]:
        """Returns the hidden files and folders, and the descriptions of datasets, that are not read."""
        return self._list()[1]

    def _texts(self) -> tuple[str, ...]:
        """Returns the paths as they were typed."""
        return (self.paths,) if isinstance(self.paths, str) else tuple(self.paths)

    def _list(self) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
        """Returns the files to read, each once and in reading order, and what is skipped."""
        files: list[pathlib.Path] = []
        skipped: list[pathlib.Path] = []
        for text in self._texts():
            for path in _match(text):
                if path.is_dir():
                    in_folder, not_read = list_folder(path)
                    readers.check_format(in_folder, folder=path)
                    files += in_folder
                    skipped += not_read
                else:
                    readers.check_format([path])
                    files.append(path)
        return list(dict.fromkeys(files)), list(dict.fromkeys(skipped))


def _match(text: str) -> list[pathlib.Path]:
    """Returns the path that was typed if it exists, or else what it matches as a glob, sorted."""
    # An empty text would be the current folder.
    if not text:
        return []
    path = expand_path(text)
    if path.exists():
        return [path]
    # What a glob matches is not as deliberate as a name, so descriptions of datasets are left out here, too.
    return [path for path in sorted(map(pathlib.Path, glob.glob(str(path), recursive=True))) if not _is_card(path)]


def list_folder(folder: pathlib.Path) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """Returns the files in a folder and its subfolders, sorted by name, and what is skipped there.

    Links are followed. A folder that several links lead to is listed once, and a skipped folder as one path.

    Raises:
        ValueError: If there is something that is neither a file nor a folder, such as a link to nothing.
    """
    files: list[pathlib.Path] = []
    skipped: list[pathlib.Path] = []
    visited: set[pathlib.Path] = set()

    def visit(current: pathlib.Path) -> None:
        if current.resolve() in visited:
            return
        visited.add(current.resolve())
        for path in sorted(current.iterdir()):
            if path.name.startswith(".") or _is_card(path):
                skipped.append(path)
            elif path.is_dir():
                visit(path)
            elif path.is_file():
                files.append(path)
            else:
                what = "a link to a file that does not exist" if path.is_symlink() else "not a regular file"
                raise ValueError(f"{path} is {what}; remove it, or name only the files to read")

    visit(folder)
    return files, skipped


def _is_card(path: pathlib.Path) -> bool:
    """Returns whether a file is the description of a dataset that was downloaded from the Hub."""
    return path.name == HUB_CARD and any((path.parent / mark).exists() for mark in HUB_MARKS)
