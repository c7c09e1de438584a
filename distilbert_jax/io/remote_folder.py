"""Folders in an object store, `gs://BUCKET/FOLDER` or `s3://BUCKET/FOLDER`, each with a copy on this machine where all
the work is done.

    s3://bucket/runs/mine/export/…        its files
    s3://bucket/runs/mine/export.sha256   their sums, written last: a folder without them is not whole

A store has no rename that could make a folder appear at once, and nothing in it is trusted before its sum is seen.
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

PARALLEL_TRANSFERS = 8  # files on their way
ATTEMPTS = 3  # times that a file is fetched whose bytes are not those its sum states
_ADDRESS = re.compile(r"((?:gs|s3)://[^/\s]+)/([^\s]*[^/\s])/?")


class UploadProgress(TypedDict):
    """What a folder that is being sent will hold, and the tags of what stood there before."""

    sums: dict[str, str]
    before: dict[str, str]


NOTHING = files.to_json(UploadProgress(sums={}, before={}))


def is_address(name: str) -> bool:
    return "://" in name


def remote_folder(name: str | None) -> "RemoteFolder | None":
    """The folder at an address; None for what is no address. ValueError for one that names no folder of a store."""
    if name is None or not is_address(name):
        return None
    parts = _ADDRESS.fullmatch(name)
    if not parts or ".." in parts[2].split("/"):
        raise ValueError(f"{name} is no address of a folder: write gs://BUCKET/FOLDER or s3://BUCKET/FOLDER")
    bucket, path = parts.groups()
    return RemoteFolder(ObjectStore(bucket), path, cache_dir.cache_folder("stored") / bucket.replace("://", "/") / path)


def local_path(name: str) -> pathlib.Path:
    """Where on this machine the work is done for a folder on disk or at an address."""
    stored = remote_folder(name)
    return stored.copy if stored else pathlib.Path(name)


@dataclasses.dataclass(frozen=True)
class RemoteFolder:
    """A folder in a bucket, and its copy."""

    bucket: ObjectStore
    path: str  # in the bucket
    copy: pathlib.Path

    def __truediv__(self, name: str) -> "RemoteFolder":
        return RemoteFolder(self.bucket, f"{self.path}/{name}", self.copy / name)

    def __str__(self) -> str:
        return f"{self.bucket.address}/{self.path}"

    def download(self) -> bool:
        """Makes the copy what the store has; False where that is no whole folder. Other processes of this machine
        that ask meanwhile wait, and find it done.
        """
        with self._alone():
            content = self.bucket.read(self._sums)
            if content is None:
                return False
            if self.copy.is_dir() and self._copied_sums.is_file() and self._copied_sums.read_bytes() == content:
                return True
            sums = self._parsed(content)
            self._copied_sums.unlink(missing_ok=True)
            _each(f"fetching {self}", sums, lambda name: self._fetch(name, sums[name]))
            for name in files.folder_hashes(self.copy).keys() - sums.keys():
                (self.copy / name).unlink()
            self._copied_sums.write_bytes(content)
            return True

    def download_loose(self, *, wanted: Callable[[str], bool] = lambda name: True) -> bool:
        """As `fetch`, of a folder that may have no sums: what its files' tags say is new. False where there are no
        files. `wanted` says of a name whether it is.
        """
        if self.download():
            return True
        with self._alone():
            tags = {name: tag for name, tag in self.bucket.tags(self.path).items() if wanted(name)}
            self._demand_inside(tags)
            record = self.copy.with_name(f"{self.copy.name}.tags")
            known = untrusted.read_json(record, dict[str, str]) if record.is_file() else {}
            there = lambda name: known.get(name) == tags[name] and (self.copy / name).is_file()
            _each(f"fetching {self}", [name for name in tags if not there(name)], self._fetch)
            files.write_json(record, tags)
            return bool(tags)

    def upload(self, sums: dict[str, str] | None = None) -> None:
        """Makes the folder in the store what the copy is, whose `sums` may be known. What a killed one left is not sent
        again.
        """
        sums = sums or files.folder_hashes(self.copy)
        before = self.bucket.read(self._sums)
        if before is not None and self._parsed(before) == sums:
            return
        self.bucket.delete([self._sums])
        unfinished, there = f"{self._sums}.partial", self.bucket.tags(self.path)
        content = self.bucket.read(unfinished) or NOTHING
        begun: UploadProgress = untrusted.parse_json(
            content.decode(errors="replace"), UploadProgress, where=f"{self}.sha256.partial"
        )
        if begun["sums"] != sums:
            begun = {"sums": sums, "before": there}
            self.bucket.write(unfinished, files.to_json(begun))
        missing = [name for name in sums if there.get(name) in (None, begun["before"].get(name))]
        _each(f"sending {self}", missing, self.upload_file)
        self.bucket.delete([f"{self.path}/{name}" for name in there.keys() - sums.keys()])
        self.bucket.write(self._sums, files.to_json(sums))
        self.bucket.delete([unfinished])
        self._copied_sums.write_bytes(files.to_json(sums))

    def upload_file(self, name: str) -> None:
        """One file, which nothing vouches for."""
        self.bucket.write(f"{self.path}/{name}", self.copy / name)

    def remove(self) -> None:
        """The folder in the store; it is not whole any more before the first file goes."""
        self.bucket.delete([self._sums])
        self.bucket.delete([f"{self.path}/{name}" for name in self.bucket.tags(self.path)])

    def is_complete(self) -> list[str]:
        """The names of the folders in this one that are whole."""
        names = [name for name in self.bucket.tags(self.path) if "/" not in name]
        return [name.removesuffix(".sha256") for name in names if name.endswith(".sha256")]

    @property
    def _sums(self) -> str:
        return f"{self.path}.sha256"

    @property
    def _copied_sums(self) -> pathlib.Path:
        return self.copy.with_name(f"{self.copy.name}.sha256")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        self.copy.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(self.copy.with_name(f"{self.copy.name}.lock")):
            yield

    def _parsed(self, content: bytes) -> dict[str, str]:
        where = f"{self}.sha256"
        sums: dict[str, str] = untrusted.parse_json(content.decode(errors="replace"), dict[str, str], where=where)
        self._demand_inside(sums)
        return sums

    def _demand_inside(self, names: Iterable[str]) -> None:
        for name in names:
            if not {"", ".", ".."}.isdisjoint(name.split("/")) or "\\" in name or "\0" in name:
                raise ValueError(f"{self} names {name!r}, which is no file in its folder")

    def _fetch(self, name: str, wanted: str | None = None) -> None:
        """One file, unless it is there with the sum that is wanted."""
        path = self.copy / name
        if wanted and path.is_file() and files.sha256(path) == wanted:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(ATTEMPTS):
            with files.write_atomically(path) as partial:
                found = self.bucket.download(f"{self.path}/{name}", partial)
            if wanted in (None, found):
                return
            path.unlink()
        raise ConnectionError(f"{self}/{name}: fetched {ATTEMPTS} times, its bytes are never those of its sum")


def _each(what: str, names: Collection[str], work: Callable[[str], None]) -> None:
    """Some at once: most of the time goes into waiting for the store."""
    with (
        progress_bar(what, total=len(names)) as advance,
        concurrent.futures.ThreadPoolExecutor(PARALLEL_TRANSFERS) as pool,
    ):
        for done, _ in enumerate(pool.map(work, names), 1):
            advance(done)
