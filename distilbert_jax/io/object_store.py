"""One bucket of an object store. What goes wrong with it is a ConnectionError of one line that names the object."""

import contextlib
import dataclasses
import datetime
import functools
import hashlib
import pathlib
import re
from collections.abc import Iterator
from typing import Any

RETRIES, RETRY_SECONDS = 8, 60.0
"""How often a request is made anew, and for how many seconds at most: then it is an error."""

MAX_SMALL_BYTES = 2**28  # bytes of an object that is read into memory
MAX_MESSAGE_CHARACTERS = 400  # characters of what a store says


@dataclasses.dataclass(frozen=True)
class ObjectStore:
    """By its address: gs://NAME or s3://NAME. Credentials come from the environment, or the machine in the cloud."""

    address: str

    def read(self, key: str) -> bytes | None:
        """A small object, or None where there is none."""
        with self._asked(key) as (obstore, store):
            try:
                found = obstore.get(store, key)
            except FileNotFoundError:  # a bucket that is not there looks the same; to list it is an error
                next(iter(obstore.list(store, prefix=key, chunk_size=1)), None)
                return None
            if found.meta["size"] > MAX_SMALL_BYTES:
                raise ValueError(f"{self.address}/{key} has {found.meta['size']:,} bytes: it is not what it seems")
            return bytes(found.bytes())

    def download(self, key: str, path: pathlib.Path) -> str:
        """Writes an object to a file; returns its SHA-256."""
        found = hashlib.sha256()
        with self._asked(key) as (obstore, store), open(path, "wb") as out:
            for part in obstore.get(store, key).stream():
                found.update(part)
                out.write(part)
        return found.hexdigest()

    def write(self, key: str, content: bytes | pathlib.Path) -> None:
        """An object, of bytes or of a file; it is there whole or not at all."""
        with self._asked(key) as (obstore, store):
            obstore.put(store, key, content)

    def tags(self, folder: str) -> dict[str, str]:
        """{name: what changes with its content} of every object in a folder and below."""
        with self._asked(folder) as (obstore, store):
            found = [about for part in obstore.list(store, prefix=f"{folder}/") for about in part]
        return {about["path"].removeprefix(f"{folder}/"): f"{about['e_tag']} {about['size']}" for about in found}

    def delete(self, keys: list[str]) -> None:
        """Those of them that are there."""
        with self._asked(keys[0] if keys else "") as (obstore, store), contextlib.suppress(FileNotFoundError):
            obstore.delete(store, keys)  # Google's store says so of one that is gone already, S3 does not

    @contextlib.contextmanager
    def _asked(self, key: str) -> Iterator[tuple[Any, Any]]:
        """(obstore, its store)."""
        try:
            import obstore
        except ImportError:
            raise ValueError(
                f"{self.address}: object stores need the extra `storage`: pip install 'distilbert_jax[storage]'"
            ) from None
        try:
            yield obstore, open_store(self.address)
        except obstore.exceptions.BaseError as error:
            raise ConnectionError(f"{self.address}/{key}: {_in_words(error)}") from None


@functools.cache
def open_store(address: str) -> Any:
    """Obstore's own."""
    from obstore import store

    patience = datetime.timedelta(seconds=RETRY_SECONDS)
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
        f"{stated[1] if stated else said[:MAX_MESSAGE_CHARACTERS]}. Is the bucket's name right, and do AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY (s3://) or GOOGLE_APPLICATION_CREDENTIALS (gs://) say who asks?"
    )
