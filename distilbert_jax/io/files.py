"""Writing so that a crash leaves nothing that looks whole, hashing, and keeping others out."""

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import filelock

LOCK = ".lock"


def sha256(path: pathlib.Path) -> str:
    """Of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_hashes(folder: pathlib.Path) -> dict[str, str]:
    """{name: SHA-256} of all files in a folder and below; the lock of who works in it is none of them."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != LOCK)
    return {path.relative_to(folder).as_posix(): sha256(path) for path in found}


@contextlib.contextmanager
def write_atomically(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A name to write to; it becomes `path` once the block has ended well, and is gone where it has not."""
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def to_json(content: Any) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()


def write_json(path: pathlib.Path, content: Any) -> None:
    with write_atomically(path) as partial:
        partial.write_bytes(to_json(content))


def remove(folder: pathlib.Path) -> None:
    """A folder and all that is in it, where it is there."""
    if folder.exists():
        shutil.rmtree(folder)


def replace_folder(new: pathlib.Path, folder: pathlib.Path) -> None:
    """`new` becomes `folder`: a kill leaves the old one, none, or the new one, and never a half of either."""
    old = folder.with_name(folder.name + ".old")
    remove(old)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    remove(old)


def disk_error(error: Exception, path: pathlib.Path) -> OSError:
    """What the disk said to a library that has only words for it."""
    said = str(error)
    number = next((n for n in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOENT) if os.strerror(n) in said), None)
    return OSError(number, os.strerror(number), str(path)) if number else OSError(errno.EIO, said, str(path))


@contextlib.contextmanager
def lock_folder(folder: pathlib.Path) -> Iterator[None]:
    """Holds `folder` for this process. ValueError where another process holds it; a crash lets go of it.

    An OSError on the way out names at least the folder: a full disk does not say where.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        raise ValueError(f"{folder} is in use by another process; wait for it, or take another folder") from None
    with lock:
        try:
            yield
        except OSError as error:
            if error.errno:
                error.filename = error.filename or str(folder)
            raise
