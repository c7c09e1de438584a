"""One bucket of an object store. A request that fails raises a ConnectionError of one line that names the object."""

import contextlib
import dataclasses
import datetime
import functools
import hashlib
import pathlib
import re
from collections.abc import Iterator
from typing import Any

MAX_RETRIES, RETRY_TIMEOUT_SECONDS = 8, 60.0
"""A request that fails is repeated this often, and for this long in all; then it is an error."""

MAX_SMALL_BYTES = 2**28  # the largest object that is read into memory
MAX_MESSAGE_CHARACTERS = 400  # of a store's message that an error quotes


@dataclasses.dataclass(frozen=True)
class ObjectStore:
    """A bucket. Credentials come from the environment, or from the machine if it is in the store's cloud.

    All methods raise ConnectionError if the store fails or refuses, and ValueError if the library for it is missing.

    Attributes:
        address: gs://NAME or s3://NAME.
    """

    address: str

    def read(self, key: str) -> bytes | None:
        """Returns the bytes of a small object, or None if there is no such object.

        Raises:
            ValueError: if the object has more than `MAX_SMALL_BYTES`.
        """
        with self._open(key) as (obstore, store):
            try:
                response = obstore.get(store, key)
            except FileNotFoundError:
                # A bucket that does not exist looks the same here, but listing its objects is an error.
                next(iter(obstore.list(store, prefix=key, chunk_size=1)), None)
                return None
            if response.meta["size"] > MAX_SMALL_BYTES:
                raise ValueError(
                    f"{self.address}/{key} has {response.meta['size']:,} bytes, but at most {MAX_SMALL_BYTES:,} are "
                    "read: check that it is the right file"
                )
            return bytes(response.bytes())

    def download(self, key: str, path: pathlib.Path) -> str:
        """Writes an object to a file and returns its SHA-256."""
        digest = hashlib.sha256()
        with self._open(key) as (obstore, store), open(path, "wb") as file:
            for chunk in obstore.get(store, key).stream():
                digest.update(chunk)
                file.write(chunk)
        return digest.hexdigest()

    def write(self, key: str, content: bytes | pathlib.Path) -> None:
        """Writes an object from bytes or from a file. It appears only once it is complete."""
        with self._open(key) as (obstore, store):
            obstore.put(store, key, content)

    def list_tags(self, folder: str) -> dict[str, str]:
        """Returns, by relative name, a tag of every object in a folder and its subfolders.

        The tag of an object changes whenever its content does.
        """
        with self._open(folder) as (obstore, store):
            objects = [meta for page in obstore.list(store, prefix=f"{folder}/") for meta in page]
        return {meta["path"].removeprefix(f"{folder}/"): f"{meta['e_tag']} {meta['size']}" for meta in objects}

    def delete(self, keys: list[str]) -> None:
        """Deletes objects; those that do not exist are ignored."""
        # Google's store reports an object that does not exist as an error, S3 does not.
        with self._open(keys[0] if keys else "") as (obstore, store), contextlib.suppress(FileNotFoundError):
            obstore.delete(store, keys)

    @contextlib.contextmanager
    def _open(self, key: str) -> Iterator[tuple[Any, Any]]:
        """Yields (the module obstore, its store for this bucket), and turns its errors into ones that name the key."""
        try:
            import obstore
        except ImportError:
            raise ValueError(
                f"{self.address}: object stores need the extra `storage`: pip install 'distilbert_jax[storage]'"
            ) from None
        try:
            yield obstore, open_store(self.address)
        except obstore.exceptions.BaseError as error:
            raise ConnectionError(f"{self.address}/{key}: {_format_error(error)}") from None


@functools.cache
def open_store(address: str) -> Any:
    """Opens a bucket with obstore. The connection is kept for later calls."""
    from obstore import store

    return store.from_url(
        address,
        retry_config={
            "max_retries": MAX_RETRIES,
            "retry_timeout": datetime.timedelta(seconds=RETRY_TIMEOUT_SECONDS),
        },
        # AWS_ENDPOINT_URL may name a server that has no TLS, so plain HTTP is allowed.
        client_options={"connect_timeout": "10s", "allow_http": True},
    )


def _format_error(error: Exception) -> str:
    """Formats an error of obstore: what the store answered, and what to check."""
    text = " ".join(str(error).partition("Debug source")[0].split())
    match = re.search(r"<Message>(.*?)</Message>", text)
    answer = (match[1] if match else text[:MAX_MESSAGE_CHARACTERS]).rstrip(".")
    return (
        f"{answer}. Check the bucket's name and the credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for "
        "s3://, GOOGLE_APPLICATION_CREDENTIALS for gs://"
    )
