"""What is written down of a prepared corpus, read again: manifest.json, and a .json beside each shard."""

import contextlib
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypedDict

from distilbert_jax.io import untrusted
from distilbert_jax.io.data_format import check_format

FORMAT = 2
"""The format number of a prepared corpus, raised whenever names or contents of its files change."""

MOST = 2**28  # bytes of a manifest: one of 10¹² characters
PARTS = ("tokens", "segment_ids")  # of a shard, each a file
_FORMAT_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
_NAME = re.compile(r"(train|held_out)-\d{5,12}", re.ASCII)


class Shard(TypedDict):
    """What a shard holds."""

    name: str
    rows: int
    sha256: dict[str, str]
    counts: dict[str, int]


class Sides(TypedDict):
    """All shards."""

    train: list[Shard]
    held_out: list[Shard]


class TokenCounts(TypedDict):
    """The part of a manifest about token_counts.npy."""

    sha256: str


class Formatted(TypedDict):
    """What a manifest or plan has in every format: its settings, with the number of the format among them."""

    settings: dict[str, str]


class Manifest(TypedDict):
    """The whole."""

    settings: dict[str, str]
    files: list[dict[str, str | int]]
    licenses: dict[str, str]
    shards: Sides
    token_counts: TokenCounts
    totals: dict[str, int | float]


def read(folder: pathlib.Path) -> dict[str, Any]:
    """The manifest of a folder. ValueError where it is damaged, names a file that is not in the folder, or was written
    by another version of the package.
    """
    path = folder / "manifest.json"
    with _damage_explained(path):
        manifest: dict[str, Any] = untrusted.read_json(path, Formatted, max_bytes=MOST)
    check_shard_format(manifest["settings"], path)
    with _damage_explained(path):
        untrusted.check_shape(manifest, Manifest, where=str(path))
        for shard in (*manifest["shards"]["train"], *manifest["shards"]["held_out"]):
            _demand_ours(shard, where=str(path))
    return manifest


@contextlib.contextmanager
def _damage_explained(path: pathlib.Path) -> Iterator[None]:
    """Says of a ValueError that it means a damaged manifest, and what to do about it."""
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
    """What stands beside one shard."""
    shard: dict[str, Any] = untrusted.read_json(path, Shard)
    _demand_ours(shard, where=str(path))
    return shard


def _demand_ours(shard: dict[str, Any], *, where: str) -> None:
    """ValueError for a shard with another name than this package gives, or without the sums of its parts."""
    if not _NAME.fullmatch(shard["name"]) or shard["rows"] < 0 or shard["sha256"].keys() != set(PARTS):
        raise ValueError(f"{where}: {shard['name'][:60]!r} is not a shard as it was written")
