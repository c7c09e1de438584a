"""Marks the folders that this program creates, so that a folder of the user is never replaced or written to.

`distilbert_jax.json` is the first file in every folder that a command creates. It says which command made the folder
and from what, and the number of its format. A folder that has other files and no marker is refused.
"""

import contextlib
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypedDict

from distilbert_jax.io import files, untrusted
from distilbert_jax.io.remote_folder import RemoteFolder

MARKER_FILE = "distilbert_jax.json"

Maker = Literal["distill", "distill --smoke", "finetune", "prepare", "retention", "export"]
"""What makes a folder: a command, or "export" for a model in the Hub's layout, whichever command wrote it."""


class FolderMarker(TypedDict):
    """The content of the marker.

    Attributes:
        made_by: the command that made the folder.
        format: the number of the folder's format, which its reader compares with its own.
        made_from: what decided the folder's content, such as settings and hashes.
    """

    made_by: str
    format: int
    made_from: dict[str, Any]


def read_marker(folder: pathlib.Path) -> FolderMarker | None:
    """Returns the marker of a folder, or None if it has none.

    Raises:
        ValueError: the marker is damaged.
    """
    path = folder / MARKER_FILE
    return untrusted.read_json(path, FolderMarker) if path.is_file() else None


def write_marker(folder: pathlib.Path, made_by: Maker, *, format: int = 1, made_from: Mapping[str, Any] = {}) -> None:
    """Writes the marker of a folder, which is created if it is missing.

    Args:
        folder: the folder.
        made_by: the command that makes the folder.
        format: the number of the folder's format.
        made_from: what decides the folder's content, as JSON can hold it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / MARKER_FILE, FolderMarker(made_by=made_by, format=format, made_from=dict(made_from)))


def check_format(stated: object, current: int, *, what: str, remedy: str) -> None:
    """Raises ValueError unless data have the format that this version of the package reads and writes.

    Args:
        stated: the number that the data state, or None if they state none, as the earliest ones do.
        current: the number that this version writes. It is raised whenever names or contents of the files change.
        what: the data, as the error names them.
        remedy: what to do to make the data again.
    """
    if stated == current:
        return
    is_later = isinstance(stated, int) and stated > current
    raise ValueError(
        f"{what} was written by {'a later' if is_later else 'an earlier'} version of distilbert_jax (format "
        f"{'not stated' if stated is None else stated}, this version needs {current}); {remedy}"
    )


def check_owner(folder: pathlib.Path, made_by: Maker, *, setting: str | None) -> None:
    """Checks that a folder is missing, is empty, or was made by the same command.

    Whether it can be written at all is checked by `files.check_can_write`.

    Args:
        folder: the folder that a command wants to write to.
        made_by: the command.
        setting: how the user names another folder, such as "workdir=FOLDER", or None if only code names it.

    Raises:
        ValueError: the folder has files of something else, or there is a file of this name.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder, so nothing can be written to it. {_format_remedy(setting)}")
    names = sorted(path.name for path in folder.iterdir() if path.name != files.LOCK)
    _check_marker(read_marker(folder), names, str(folder), made_by, setting)


def check_remote_owner(folder: RemoteFolder, made_by: Maker, *, setting: str) -> None:
    """Checks the same as `check_owner` for a folder in an object store.

    An upload deletes the objects in the folder that it does not replace.

    Args:
        folder: the folder that a command wants to upload.
        made_by: the command.
        setting: how the user names another folder.

    Raises:
        ValueError: the folder has objects of something else.
        ConnectionError: the store cannot be read.
    """
    if folder.has_begun_upload():
        return
    names = folder.list_names()
    content = folder.read(MARKER_FILE) if MARKER_FILE in names else None
    where = f"{folder}/{MARKER_FILE}"
    marker = untrusted.parse_json(content.decode(errors="replace"), FolderMarker, where=where) if content else None
    _check_marker(marker, names, str(folder), made_by, setting)


def _check_marker(
    marker: FolderMarker | None, names: Sequence[str], folder: str, made_by: Maker, setting: str | None
) -> None:
    """Raises ValueError if a folder with files of these names has no marker, or that of another command."""
    if marker is None and names:
        raise ValueError(
            f"{folder} has files that this program did not make, such as {names[0]} (there is no {MARKER_FILE}), or an "
            f"earlier version made them; nothing was changed. {_format_remedy(setting)}"
        )
    if marker is not None and marker["made_by"] != made_by:
        raise ValueError(
            f"{folder} was made by `{marker['made_by']}`, so `{made_by}` does not write to it; nothing was changed. "
            f"{_format_remedy(setting)}"
        )


def _format_remedy(setting: str | None) -> str:
    """Returns the sentence that says what to do about a folder that is refused."""
    return f"Name a new or an empty folder with {setting}" if setting else "Move the files away, or name another folder"


@contextlib.contextmanager
def hold_folder(folder: pathlib.Path, made_by: Maker, *, setting: str) -> Iterator[None]:
    """Keeps other processes from using a folder during the block, after `check_owner`.

    Raises:
        ValueError: another process uses the folder, or it has files of something else.
    """
    check_owner(folder, made_by, setting=setting)
    is_new = not folder.exists()
    try:
        with files.lock_folder(folder):
            yield
    finally:
        # A command that was refused leaves no empty folder.
        if is_new and folder.is_dir() and [path.name for path in folder.iterdir()] == [files.LOCK]:
            files.remove(folder)
