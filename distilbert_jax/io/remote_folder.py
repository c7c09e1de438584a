"""Folders in an object store, `gs://BUCKET/FOLDER` or `s3://BUCKET/FOLDER`. All work is done on a copy on this machine.

    s3://bucket/runs/mine/export/…        the files of a folder
    s3://bucket/runs/mine/export.sha256   the hashes of its files, written last: without it the folder is incomplete

A store cannot rename a folder, so a folder cannot appear in one step; that is what the file of hashes is for. No file
of a store is used before its hash was checked.
"""

import concurrent.futures
import contextlib
import dataclasses
import pathlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TypedDict

import filelock

from distilbert_jax.io import cache_dir, files, untrusted
from distilbert_jax.io.console import progress_bar
from distilbert_jax.io.object_store import ObjectStore

PARALLEL_TRANSFERS = 8  # files that are uploaded or downloaded at the same time
DOWNLOAD_ATTEMPTS = 3  # for a file whose bytes do not match its hash
_ADDRESS = re.compile(r"((?:gs|s3)://[^/\s]+)/([^\s]*[^/\s])/?")


class UploadProgress(TypedDict):
    """The content of FOLDER.sha256.partial: an upload that has begun.

    Attributes:
        sums: the hashes of the files to upload.
        before: the tags of the objects that were in the folder before the upload.
    """

    sums: dict[str, str]
    before: dict[str, str]


NO_PROGRESS_JSON = files.encode_json(UploadProgress(sums={}, before={}))


def is_address(name: str) -> bool:
    """Returns whether a name is an address, as opposed to a folder on disk or a Hub id."""
    return "://" in name


def open_remote_folder(name: str | None) -> "RemoteFolder | None":
    """Returns the folder at an address, or None if the name is not an address.

    Raises:
        ValueError: if it is an address, but not one of a folder in an object store.
    """
    if name is None or not is_address(name):
        return None
    match = _ADDRESS.fullmatch(name)
    if not match or ".." in match[2].split("/"):
        raise ValueError(f"{name} is not the address of a folder: write gs://BUCKET/FOLDER or s3://BUCKET/FOLDER")
    bucket, path = match.groups()
    return RemoteFolder(ObjectStore(bucket), path, cache_dir.cache_folder("stored") / bucket.replace("://", "/") / path)


def local_path(name: str) -> pathlib.Path:
    """Returns the folder on this machine to work in: the name itself, or the local copy if it is an address."""
    remote = open_remote_folder(name)
    return remote.copy if remote else files.expand_path(name)


@dataclasses.dataclass(frozen=True)
class RemoteFolder:
    """A folder in a bucket, and its copy on this machine.

    Methods that talk to the store raise ConnectionError if it fails, and ValueError if its data are not valid.

    Attributes:
        bucket: the bucket.
        path: the folder's path in the bucket.
        copy: the folder on this machine, which need not exist.
    """

    bucket: ObjectStore
    path: str
    copy: pathlib.Path

    def __truediv__(self, name: str) -> "RemoteFolder":
        """Returns a subfolder."""
        return RemoteFolder(self.bucket, f"{self.path}/{name}", self.copy / name)

    def __str__(self) -> str:
        """Returns the folder's address."""
        return f"{self.bucket.address}/{self.path}"

    def download(self) -> bool:
        """Makes the copy equal to the folder in the store; files that are already right are not downloaded again.

        If several processes of this machine call it at the same time, one downloads and the others wait for it.

        Returns:
            False if the store has no complete folder here.
        """
        with self._lock():
            content = self.bucket.read(self._hashes_key)
            if content is None:
                return False
            record = self._local_hashes_path
            if self.copy.is_dir() and record.is_file() and record.read_bytes() == content:
                return True
            hashes = self._parse_hashes(content)
            # The record says which hashes the copy has, so it is absent while the copy changes.
            record.unlink(missing_ok=True)
            _for_each_file(f"downloading {self}", hashes, lambda name: self._download_file(name, hashes[name]))
            for name in files.folder_hashes(self.copy).keys() - hashes.keys():
                (self.copy / name).unlink()
            record.write_bytes(content)
            return True

    def download_loose(self, *, include: Callable[[str], bool] = lambda name: True) -> bool:
        """Downloads a folder that need not have hashes, such as a model that another program put there.

        Without hashes, the store's tags tell which files have changed since the last download.

        Args:
            include: returns whether to download the file with this relative name; used only if there are no hashes.

        Returns:
            False if there is nothing to download.
        """
        if self.download():
            return True
        with self._lock():
            tags = {name: tag for name, tag in self.bucket.list_tags(self.path).items() if include(name)}
            self._check_names(tags)
            record = self.copy.with_name(f"{self.copy.name}.tags")
            earlier_tags = untrusted.read_json(record, dict[str, str]) if record.is_file() else {}
            outdated = [
                name for name in tags if earlier_tags.get(name) != tags[name] or not (self.copy / name).is_file()
            ]
            _for_each_file(f"downloading {self}", outdated, self._download_file)
            files.write_json(record, tags)
            return bool(tags)

    def upload(self, hashes: dict[str, str] | None = None) -> None:
        """Makes the folder in the store equal to the copy.

        If an earlier upload of the same files was interrupted, what it sent is not sent again.

        Args:
            hashes: the hashes of the copy's files, if they are known already.
        """
        hashes = hashes or files.folder_hashes(self.copy)
        content = self.bucket.read(self._hashes_key)
        if content is not None and self._parse_hashes(content) == hashes:
            return
        # Without its hashes the folder is incomplete, so nobody uses it while it changes.
        self.bucket.delete([self._hashes_key])
        progress_key, tags = f"{self._hashes_key}.partial", self.bucket.list_tags(self.path)
        progress: UploadProgress = untrusted.parse_json(
            (self.bucket.read(progress_key) or NO_PROGRESS_JSON).decode(errors="replace"),
            UploadProgress,
            where=f"{self}.sha256.partial",
        )
        if progress["sums"] != hashes:
            progress = {"sums": hashes, "before": tags}
            self.bucket.write(progress_key, files.encode_json(progress))
        # An object whose tag is still the one from before the upload has not been sent yet.
        missing = [name for name in hashes if tags.get(name) in (None, progress["before"].get(name))]
        _for_each_file(f"uploading {self}", missing, self.upload_file)
        self.bucket.delete([f"{self.path}/{name}" for name in tags.keys() - hashes.keys()])
        self.bucket.write(self._hashes_key, files.encode_json(hashes))
        self.bucket.delete([progress_key])
        self._local_hashes_path.write_bytes(files.encode_json(hashes))

    def upload_file(self, name: str) -> None:
        """Uploads one file of the copy by its relative name, without recording its hash."""
        self.bucket.write(f"{self.path}/{name}", self.copy / name)

    def remove(self) -> None:
        """Removes the folder from the store. Its hashes go first, so that it is never taken for complete."""
        self.bucket.delete([self._hashes_key])
        self.bucket.delete([f"{self.path}/{name}" for name in self.bucket.list_tags(self.path)])

    def list_names(self) -> list[str]:
        """Returns the relative names of all files, sorted."""
        return sorted(self.bucket.list_tags(self.path))

    def read(self, name: str) -> bytes | None:
        """Returns the content of one small file by its relative name, or None if there is none."""
        return self.bucket.read(f"{self.path}/{name}")

    def has_begun_upload(self) -> bool:
        """Returns whether an upload of this folder was interrupted."""
        return self.bucket.read(f"{self._hashes_key}.partial") is not None

    def list_complete(self) -> list[str]:
        """Returns the names of the complete folders directly in this one."""
        names = [name for name in self.bucket.list_tags(self.path) if "/" not in name]
        return [name.removesuffix(".sha256") for name in names if name.endswith(".sha256")]

    @property
    def _hashes_key(self) -> str:
        """The key of the object with the hashes."""
        return f"{self.path}.sha256"

    @property
    def _local_hashes_path(self) -> pathlib.Path:
        """The file next to the copy with the hashes that the copy has."""
        return self.copy.with_name(f"{self.copy.name}.sha256")

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Keeps other processes of this machine from changing the copy during the block."""
        self.copy.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(self.copy.with_name(f"{self.copy.name}.lock")):
            yield

    def _parse_hashes(self, content: bytes) -> dict[str, str]:
        """Parses and checks the object with the hashes."""
        where = f"{self}.sha256"
        hashes: dict[str, str] = untrusted.parse_json(content.decode(errors="replace"), dict[str, str], where=where)
        self._check_names(hashes)
        return hashes

    def _check_names(self, names: Iterable[str]) -> None:
        """Raises ValueError if a name would lead to a file outside of the copy."""
        for name in names:
            if not {"", ".", ".."}.isdisjoint(name.split("/")) or "\\" in name or "\0" in name:
                raise ValueError(
                    f"{self} names {name!r}, which is not a file in its folder: do not use this folder, or upload "
                    "it again from a copy that you trust"
                )

    def _download_file(self, name: str, expected_hash: str | None = None) -> None:
        """Downloads one file, unless the copy already has it with the expected hash."""
        path = self.copy / name
        if expected_hash and path.is_file() and files.sha256(path) == expected_hash:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(DOWNLOAD_ATTEMPTS):
            with files.write_atomically(path) as partial:
                actual_hash = self.bucket.download(f"{self.path}/{name}", partial)
            if expected_hash in (None, actual_hash):
                return
            path.unlink()
        raise ConnectionError(
            f"{self}/{name}: downloaded {DOWNLOAD_ATTEMPTS} times, but its SHA-256 is never the one that {self}.sha256 "
            "states; upload the folder again"
        )


def _for_each_file(label: str, names: Collection[str], work: Callable[[str], None]) -> None:
    """Calls `work` with every name, several at once because most of the time is spent waiting for the store."""
    with (
        progress_bar(label, total=len(names)) as advance,
        concurrent.futures.ThreadPoolExecutor(PARALLEL_TRANSFERS) as pool,
    ):
        for done, _ in enumerate(pool.map(work, names), 1):
            advance(done)
