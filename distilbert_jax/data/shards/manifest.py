"""Reads the records of a prepared corpus: `manifest.json`, and the `.json` file of each shard."""

import contextlib
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypedDict

from distilbert_jax.io import untrusted
from distilbert_jax.io.folder_marker import check_format
from distilbert_jax.messages import format_value

FORMAT = 3
"""The format number of a prepared corpus, raised whenever names or contents of its files change."""

MAX_MANIFEST_BYTES = 2**28
"""Largest manifest that is read. That of 10¹² characters of text fits."""

SHARD_ARRAYS = ("tokens", "segment_ids")
"""The arrays of a shard, each in a file NAME.ARRAY.npy."""

_FORMAT_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
_NAME = re.compile(r"(train|held_out)-\d{5,12}", re.ASCII)


class Shard(TypedDict):
    """What a shard holds: its rows, the SHA-256 of each array's file, and counts of documents, pieces and tokens."""

    name: str
    rows: int
    sha256: dict[str, str]
    counts: dict[str, int]


class ShardsBySplit(TypedDict):
    """The shards of each split."""

    train: list[Shard]
    held_out: list[Shard]


class TokenCounts(TypedDict):
    """The part of a manifest about `token_counts.npy`."""

    sha256: str


class FormatHeader(TypedDict):
    """What a manifest or plan has in every format: its settings, with the number of the format among them."""

    settings: dict[str, str]


class SourceFile(TypedDict):
    """A file that the shards were made from: its source, path, size, time of the last change and SHA-256."""

    source: str
    name: str
    bytes: int
    modified_ns: int
    sha256: str


class Manifest(TypedDict):
    """The content of `manifest.json`."""

    settings: dict[str, str]
    files: list[SourceFile]
    licenses: dict[str, str]
    shards: ShardsBySplit
    token_counts: TokenCounts
    totals: dict[str, int | float]


def read_manifest(folder: pathlib.Path) -> dict[str, Any]:
    """Reads and checks the manifest of a prepared corpus.

    Raises:
        ValueError: If it is damaged, names a file outside the folder, or was written by another version of the package.
    """
    path = folder / "manifest.json"
    # The format is checked before the rest: a manifest of another version is not damaged.
    with _explain_damage(path):
        manifest: dict[str, Any] = untrusted.read_json(path, FormatHeader, max_bytes=MAX_MANIFEST_BYTES)
    check_shard_format(manifest["settings"], path)
    with _explain_damage(path):
        untrusted.check_shape(manifest, Manifest, where=str(path))
        for shard in (*manifest["shards"]["train"], *manifest["shards"]["held_out"]):
            _check_shard(shard, where=str(path))
    return manifest


@contextlib.contextmanager
def _explain_damage(path: pathlib.Path) -> Iterator[None]:
    """Adds to a ValueError that the manifest is damaged, and what to do about it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): delete {path.parent} and prepare the corpus again") from None


def check_shard_format(settings: Mapping[str, str], path: pathlib.Path) -> None:
    """Raises ValueError if the settings in `path`, the manifest or plan of a corpus, state another format."""
    stated = settings.get("format")
    check_format(
        int(stated) if stated and _FORMAT_NUMBER.fullmatch(stated) else stated,
        FORMAT,
        what=str(path),
        remedy=f"to prepare the corpus again, delete {path.parent}, or set another corpus.shard_dir",
    )


def read_shard(path: pathlib.Path) -> dict[str, Any]:
    """Reads and checks the `.json` file of one shard. Raises ValueError if it is damaged."""
    shard: dict[str, Any] = untrusted.read_json(path, Shard)
    _check_shard(shard, where=str(path))
    return shard


def _check_shard(shard: dict[str, Any], *, where: str) -> None:
    """Raises ValueError if a shard has a name that this package does not give, or lacks the hashes of its arrays."""
    if not _NAME.fullmatch(shard["name"]) or shard["rows"] < 0 or shard["sha256"].keys() != set(SHARD_ARRAYS):
        raise ValueError(
            f"{where}: {format_value(shard['name'])} is not a shard that `prepare` wrote; delete the folder and "
            "prepare again"
        )
