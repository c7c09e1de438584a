"""What is written down of a prepared corpus, read again: manifest.json, and a .json beside each shard."""

import pathlib
import re
from typing import Any, TypedDict

from distilbert_jax.io import untrusted

MOST = 2**28  # bytes of a manifest: one of 10¹² characters
PARTS = ("tokens", "segments")  # of a shard, each a file
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


class Words(TypedDict):
    """Of words.npy."""

    sha256: str


class Manifest(TypedDict):
    """The whole."""

    settings: dict[str, str]
    files: list[dict[str, str | int]]
    licenses: dict[str, str]
    shards: Sides
    words: Words
    totals: dict[str, int | float]


def read(folder: pathlib.Path) -> dict[str, Any]:
    """The manifest of a folder. ValueError where it is damaged, or names a file that is not in the folder."""
    path = folder / "manifest.json"
    try:
        manifest: dict[str, Any] = untrusted.read_json(path, Manifest, most=MOST)
        for shard in (*manifest["shards"]["train"], *manifest["shards"]["held_out"]):
            _demand_ours(shard, where=str(path))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): delete {folder} and prepare the corpus anew") from None
    return manifest


def read_shard(path: pathlib.Path) -> dict[str, Any]:
    """What stands beside one shard."""
    shard: dict[str, Any] = untrusted.read_json(path, Shard)
    _demand_ours(shard, where=str(path))
    return shard


def _demand_ours(shard: dict[str, Any], *, where: str) -> None:
    """ValueError for a shard with another name than this package gives, or without the sums of its parts."""
    if not _NAME.fullmatch(shard["name"]) or shard["rows"] < 0 or shard["sha256"].keys() != set(PARTS):
        raise ValueError(f"{where}: {shard['name'][:60]!r} is not a shard as it was written")
