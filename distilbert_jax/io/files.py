"""Writes, hashes and locks files and folders. After a crash, nothing incomplete has its final name."""

import contextlib
import errno
import hashlib
import json
import math
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import filelock

LOCK = ".lock"  # the name of the file by which a process holds a folder


def sha256(path: pathlib.Path) -> str:
    """Returns the SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_hashes(folder: pathlib.Path) -> dict[str, str]:
    """Returns the SHA-256 of every file in a folder and its subfolders, by relative path; lock files are left out."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != LOCK)
    return {path.relative_to(folder).as_posix(): sha256(path) for path in paths}


@contextlib.contextmanager
def write_atomically(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a temporary path to write to. It is renamed to `path` after the block, or deleted if the block fails."""
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def check_can_write(folder: pathlib.Path, *names: str) -> None:
    """Checks that files can be written to a folder, which need not exist yet. Leaves nothing behind.

    A command that takes long calls this first, so that it does not fail only when it writes its result.

    Args:
        folder: the folder.
        names: the names of the files. A file that exists may be replaced.

    Raises:
        ValueError: the folder is a file or cannot be written to, or one of the files is a folder.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not existing.is_dir():
        raise ValueError(f"{existing} is not a folder, so nothing can be written to {folder}; name another folder")
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise ValueError(
            f"nothing can be written to {folder}: {error.strerror} in {existing}; name another folder, or change its "
            "permissions"
        ) from None
    if occupied := [name for name in names if (folder / name).is_dir()]:
        raise ValueError(f"{folder / occupied[0]} is a folder, so no file can be written there; name another folder")


def encode_json(content: Any) -> bytes:
    """Encodes a value as indented JSON with a line break at the end.

    JSON has no NaN and no infinity. Such a number becomes null.
    """
    return (json.dumps(_without_nonfinite(content), indent=1, allow_nan=False) + "\n").encode()


def _without_nonfinite(content: Any) -> Any:
    """Returns a JSON value with None in place of every number that is not finite."""
    if isinstance(content, Mapping):
        return {key: _without_nonfinite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nonfinite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes a value to a JSON file, atomically."""
    with write_atomically(path) as partial:
        partial.write_bytes(encode_json(content))


def remove(folder: pathlib.Path) -> None:
    """Removes a folder with everything in it, if it exists."""
    if folder.exists():
        shutil.rmtree(folder)


def replace_folder(new: pathlib.Path, folder: pathlib.Path) -> None:
    """Renames the folder `new` to `folder` and removes what was there before.

    If the process is killed meanwhile, there is the old folder, no folder, or the new one, but never a mixture.
    """
    old = folder.with_name(folder.name + ".old")
    remove(old)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    remove(old)


def disk_error(error: Exception, path: pathlib.Path) -> OSError:
    """Returns the OSError that a library reported as an exception of another type.

    Its number is found by the system's text for it in the message, and EIO if the message contains none of those texts.

    Args:
        error: the library's exception.
        path: the file or folder that was written.
    """
    message = str(error)
    numbers = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOENT)
    number = next((n for n in numbers if os.strerror(n) in message), None)
    return OSError(number, os.strerror(number), str(path)) if number else OSError(errno.EIO, message, str(path))


@contextlib.contextmanager
def lock_folder(folder: pathlib.Path) -> Iterator[None]:
    """Creates a folder if it is missing, and keeps other processes from using it during the block.

    A crash releases the lock. An OSError in the block names the folder if it does not name a file, because the error
    of a full disk does not always say where.

    Raises:
        ValueError: if another process holds the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        raise ValueError(
            f"{folder} is in use by another process; wait until it ends, or choose another folder"
        ) from None
    with lock:
        try:
            yield
        except OSError as error:
            if error.errno:
                error.filename = error.filename or str(folder)
            raise
