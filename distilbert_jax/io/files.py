"""Writes, hashes and locks files and folders. After a crash, nothing incomplete has its final name."""

import contextlib
import errno
import hashlib
import json
import math
import os
import pathlib
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import filelock
import numpy as np

LOCK = ".lock"  # the name of the file by which a process holds a folder


def expand_path(path: str | pathlib.Path) -> pathlib.Path:
    """Returns a path that a user typed, in which `~` and `~USER` at the start are replaced by the home folder.

    Every path that comes from a command line, an experiment or a call of the public functions goes through here.

    Raises:
        ValueError: if there is no such user, and no file or folder with that name either.
    """
    typed, path = str(path), pathlib.Path(path)
    if typed.startswith("./") and str(path).startswith("~"):
        # pathlib drops "./", and the next call would take the rest for a home folder.
        return path.absolute()
    try:
        return path.expanduser()
    except RuntimeError:
        if path.exists():
            return path
        raise ValueError(
            f"{path}: {path.parts[0]!r} is not the home folder of a user of this machine; write ./{path} for a name "
            "that begins with ~"
        ) from None


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
    """Yields a temporary path to write to. It is renamed to `path` after the block, or deleted if the block fails.

    An OSError of the block names `path` if it names no file, as that of a full disk.
    The file gets the permissions that the umask gives to new files. Some libraries create theirs without them.
    """
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    try:
        partial.touch()
        mode = stat.S_IMODE(partial.stat().st_mode)
        yield partial
        if stat.S_IMODE(partial.stat().st_mode) != mode:
            partial.chmod(mode)
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno:
            error.filename = error.filename or str(path)
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


def json_sha256(content: Any) -> str:
    """Returns the SHA-256 of a value as `encode_json` writes it, in hexadecimal."""
    return hashlib.sha256(encode_json(content)).hexdigest()


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes a value to a JSON file, atomically."""
    with write_atomically(path) as partial:
        partial.write_bytes(encode_json(content))


def save_array(path: pathlib.Path, array: np.ndarray) -> None:
    """Writes an array to a .npy file, atomically. The bytes are those of `np.save`."""
    header = np.lib.format.header_data_from_array_1_0(np.ascontiguousarray(array))
    with write_atomically(path) as partial, open(partial, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        # np.save reports a full disk without the system's error number, "37504 requested and 28608 written".
        file.write(array.tobytes())


def remove(folder: pathlib.Path) -> None:
    """Removes a folder with everything in it, if it exists."""
    if folder.exists():
        shutil.rmtree(folder)


def replaced_folder(folder: pathlib.Path) -> pathlib.Path:
    """Returns where `replace_folder` keeps the old folder while the new one takes its place."""
    return folder.with_name(folder.name + ".old")


def replace_folder(new: pathlib.Path, folder: pathlib.Path) -> None:
    """Renames the folder `new` to `folder` and removes what was there before.

    If the process is killed meanwhile, there is the old folder, no folder, or the new one, but never a mixture.
    """
    old = replaced_folder(folder)
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
