"""Folders in an object store, `gs://BUCKET/FOLDER` or `s3://BUCKET/FOLDER`, each with a copy on this machine where all
the work is done.

    s3://bucket/runs/mine/export/…        its files
    s3://bucket/runs/mine/export.sha256   their sums, written last: a folder without them is not whole

A store has no rename that could make a folder appear at once, and nothing in it is trusted before its sum is seen.
"""

import contextlib
import dataclasses
import datetime
import functools
import hashlib
import os
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any, TypedDict

import filelock

from distilbert_jax import files, untrusted
from distilbert_jax.progress import bar

RETRIES, PATIENCE = 8, 60.0
"""How often a request is made anew, and for how many seconds at most: then it is an error."""

ATTEMPTS = 3  # times that a file is fetched whose bytes are not those its sum states
MOST_SUMS = 2**28  # bytes of a list of sums
MOST_SAID = 400  # characters of what a store says
_ADDRESS = re.compile(r"(gs|s3)://([^/\s]+)/([^\s]*[^/\s])/?")


class Begun(TypedDict):
    """What a folder that is being sent will hold, and the tags of what stood there before."""

    sums: dict[str, str]
    before: dict[str, str]


NOTHING = files.as_json(Begun(sums={}, before={}))


def is_address(name: str) -> bool:
    return "://" in name


def at(name: str | None) -> "Stored | None":
    """The folder at an address; None for what is no address. ValueError for one that names no folder of a store."""
    if name is None or not is_address(name):
        return None
    parts = _ADDRESS.fullmatch(name)
    if not parts or ".." in parts[3].split("/"):
        raise ValueError(f"{name} is no address of a folder: write gs://BUCKET/FOLDER or s3://BUCKET/FOLDER")
    scheme, bucket, path = parts.groups()
    caches = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    return Stored(f"{scheme}://{bucket}", path, caches / "distilbert_jax" / "stored" / scheme / bucket / path)


def local(name: str) -> pathlib.Path:
    """Where on this machine the work is done for a folder on disk or at an address."""
    stored = at(name)
    return stored.copy if stored else pathlib.Path(name)


@dataclasses.dataclass(frozen=True)
class Stored:
    """A folder in a bucket, and its copy."""

    bucket: str  # with its scheme
    path: str  # in the bucket
    copy: pathlib.Path

    def __truediv__(self, name: str) -> "Stored":
        return Stored(self.bucket, f"{self.path}/{name}", self.copy / name)

    def __str__(self) -> str:
        return f"{self.bucket}/{self.path}"

    @property
    def _sums(self) -> str:
        return f"{self.path}.sha256"

    @property
    def _copied_sums(self) -> pathlib.Path:
        return self.copy.with_name(f"{self.copy.name}.sha256")

    def fetch(self) -> bool:
        """Makes the copy what the store has; False where that is no whole folder. Other processes of this machine
        that ask meanwhile wait, and find it done.
        """
        with self._alone():
            content = self._read(self._sums)
            if content is None:
                return False
            if self.copy.is_dir() and self._copied_sums.is_file() and self._copied_sums.read_bytes() == content:
                return True
            sums = self._parsed(content)
            self._copied_sums.unlink(missing_ok=True)
            with bar(f"fetching {self}", total=len(sums)) as advance:
                for done, (name, wanted) in enumerate(sums.items(), 1):
                    if not (self.copy / name).is_file() or files.sha256(self.copy / name) != wanted:
                        self._fetch(name, wanted)
                    advance(done)
            for name in files.sums(self.copy).keys() - sums.keys():
                (self.copy / name).unlink()
            self._copied_sums.write_bytes(content)
            return True

    def fetch_loose(self, *, wanted: Callable[[str], bool] = lambda name: True) -> bool:
        """As `fetch`, of a folder that may have no sums: what its files' tags say is new. False where there are no
        files. `wanted` says of a name whether it is.
        """
        if self.fetch():
            return True
        with self._alone():
            tags = {name: tag for name, tag in self._listed().items() if wanted(name)}
            record = self.copy.with_name(f"{self.copy.name}.tags")
            known = untrusted.read_json(record, dict[str, str]) if record.is_file() else {}
            for name, tag in tags.items():
                if known.get(name) != tag or not (self.copy / name).is_file():
                    self._fetch(name, None)
            files.write_json(record, tags)
            return bool(tags)

    def put(self) -> None:
        """Makes the folder in the store what the copy is. What a killed one left is not sent again."""
        sums = files.sums(self.copy)
        before = self._read(self._sums)
        if before is not None and self._parsed(before) == sums:
            return
        self._delete([self._sums])
        unfinished, there = f"{self._sums}.partial", self._listed()
        begun: Begun = untrusted.parse_json((self._read(unfinished) or NOTHING).decode(), Begun, where=unfinished)
        if begun["sums"] != sums:
            begun = {"sums": sums, "before": there}
            self._write(unfinished, files.as_json(begun))
        with bar(f"sending {self}", total=len(sums)) as advance:
            for done, name in enumerate(sums, 1):
                if there.get(name) in (None, begun["before"].get(name)):
                    self.put_file(name)
                advance(done)
        self._delete([f"{self.path}/{name}" for name in there.keys() - sums.keys()])
        self._write(self._sums, files.as_json(sums))
        self._delete([unfinished])
        self._copied_sums.write_bytes(files.as_json(sums))

    def put_file(self, name: str) -> None:
        """One file, which nothing vouches for."""
        self._write(f"{self.path}/{name}", self.copy / name)

    def remove(self) -> None:
        """The folder in the store; it is not whole any more before the first file goes."""
        self._delete([self._sums])
        self._delete([f"{self.path}/{name}" for name in self._listed()])

    def whole(self) -> list[str]:
        """The names of the folders in this one that are whole."""
        return [name.removesuffix(".sha256") for name in self.names() if name.endswith(".sha256")]

    def names(self) -> list[str]:
        """Of the files right in this folder."""
        return [name for name in self._listed() if "/" not in name]

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        self.copy.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(self.copy.with_name(f"{self.copy.name}.lock")):
            yield

    def _parsed(self, content: bytes) -> dict[str, str]:
        where = f"{self.bucket}/{self._sums}"
        sums: dict[str, str] = untrusted.parse_json(content.decode(errors="replace"), dict[str, str], where=where)
        for name in sums:
            if name.startswith("/") or not {"", ".", ".."}.isdisjoint(name.split("/")) or "\\" in name:
                raise ValueError(f"{where} names {name!r}, which is no file in its folder")
        return sums

    def _fetch(self, name: str, wanted: str | None) -> None:
        path = self.copy / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(ATTEMPTS):
            with self._asked(f"{self.path}/{name}") as (obstore, store, key), files.atomic(path) as partial:
                found = hashlib.sha256()
                with open(partial, "wb") as out:
                    for part in obstore.get(store, key).stream():
                        found.update(part)
                        out.write(part)
            if wanted in (None, found.hexdigest()):
                return
            path.unlink()
        raise ConnectionError(f"{self}/{name}: fetched {ATTEMPTS} times, its bytes are never those of its sum")

    def _read(self, key: str) -> bytes | None:
        """A small object, or None where there is none."""
        with self._asked(key) as (obstore, store, key):
            try:
                found = obstore.get(store, key)
            except FileNotFoundError:
                self._demand_bucket(obstore, store)
                return None
            if found.meta["size"] > MOST_SUMS:
                raise ValueError(f"{self.bucket}/{key} has {found.meta['size']:,} bytes: it is not what it seems")
            return bytes(found.bytes())

    def _demand_bucket(self, obstore: Any, store: Any) -> None:
        """An object that is not there and a bucket that is not there look alike."""
        next(iter(obstore.list(store, prefix=f"{self.path}/", chunk_size=1)), None)

    def _write(self, key: str, content: bytes | pathlib.Path) -> None:
        with self._asked(key) as (obstore, store, key):
            obstore.put(store, key, content)

    def _listed(self) -> dict[str, str]:
        """{name: what changes with its content} of every file in this folder and below."""
        with self._asked(self.path) as (obstore, store, _):
            found = [about for part in obstore.list(store, prefix=f"{self.path}/") for about in part]
        return {about["path"].removeprefix(f"{self.path}/"): f"{about['e_tag']} {about['size']}" for about in found}

    def _delete(self, keys: list[str]) -> None:
        with self._asked(self.path) as (obstore, store, _), contextlib.suppress(FileNotFoundError):
            obstore.delete(store, keys)

    @contextlib.contextmanager
    def _asked(self, key: str) -> Iterator[tuple[Any, Any, str]]:
        """(obstore, the bucket, key); what goes wrong with either is a ConnectionError of one line that names it."""
        try:
            import obstore
        except ImportError:
            raise ValueError(
                f"{self}: object stores need the extra `storage`: pip install 'distilbert_jax[storage]'"
            ) from None
        try:
            yield obstore, _bucket(self.bucket), key
        except obstore.exceptions.BaseError as error:
            raise ConnectionError(f"{self.bucket}/{key}: {_in_words(error)}") from None


@functools.cache
def _bucket(address: str) -> Any:
    from obstore import store

    patience = datetime.timedelta(seconds=PATIENCE)
    return store.from_url(
        address,
        retry_config={"max_retries": RETRIES, "retry_timeout": patience},
        client_options={"connect_timeout": "10s", "allow_http": True},  # where an endpoint is stated that has no TLS
    )


def _in_words(error: Exception) -> str:
    """What a store said, and what may mend it."""
    said = " ".join(str(error).partition("Debug source")[0].split())
    stated = re.search(r"<Message>(.*?)</Message>", said)
    return (
        f"{stated[1] if stated else said[:MOST_SAID]}. Is the bucket's name right, and do AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY (s3://) or GOOGLE_APPLICATION_CREDENTIALS (gs://) say who asks?"
    )
