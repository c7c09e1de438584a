"""Reads documents from a dataset of the Hugging Face Hub, without the `datasets` package."""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any, NotRequired, TypedDict

from distilbert_jax.data.sources import readers
from distilbert_jax.data.sources.base import Source
from distilbert_jax.io import untrusted

MOST_CARD = 2**24  # bytes


class CardSplit(TypedDict):
    """Of a dataset's card: a split, and the globs of its files."""

    split: str
    path: str | list[str]


class CardConfiguration(TypedDict):
    """Of a dataset's card."""

    config_name: str
    data_files: NotRequired[str | list[str] | list[CardSplit]]


class DatasetCard(TypedDict):
    """What is read of the metadata at the head of a dataset's README."""

    license: NotRequired[str | list[str] | None]
    configs: NotRequired[list[CardConfiguration]]


@dataclasses.dataclass(frozen=True)
class HubDataset(Source):
    """A dataset of the Hugging Face Hub, by the files its repository holds (Parquet, JSONL or text), without the
    `datasets` package.

    Args:
        name: a Hub id, such as "wikimedia/wikipedia", or a local folder laid out like one.
        configuration: as the dataset's card lists it; its files are those the card names, or the folder of that name.
        revision: a commit, tag or branch. Give a commit for a run that can be repeated.
        split: which of the card's splits.
        field: the column of the text.
    """

    name: str
    _: dataclasses.KW_ONLY
    configuration: str = "default"
    revision: str = "main"
    split: str = "train"
    field: str = "text"

    def files(self) -> list[pathlib.Path]:
        folder = self._fetch(["README.md"])
        patterns = [_inside(pattern, self.name) for pattern in self._patterns(_card(folder))]
        folder = self._fetch(patterns)
        found = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
        if not found:
            raise ValueError(
                f"dataset {self.name}: no files for configuration {self.configuration!r}, split {self.split!r} "
                f"({', '.join(patterns)})"
            )
        return found

    def read(self, path: pathlib.Path) -> Iterator[str]:
        return readers.documents(path, field=self.field)

    def license(self) -> str:
        stated = _card(self._fetch(["README.md"])).get("license") or "not stated"
        return ", ".join(stated) if isinstance(stated, list) else str(stated)

    def _patterns(self, card: DatasetCard) -> list[str]:
        """The globs of this configuration and split."""
        configs = {entry["config_name"]: entry.get("data_files") for entry in card.get("configs", [])}
        if not configs:
            folder = "data" if self.configuration == "default" else self.configuration
            return [f"{folder}/{self.split}-*"]
        if self.configuration not in configs:
            raise ValueError(
                f"dataset {self.name} has no configuration {self.configuration!r}: choose one of {', '.join(configs)}"
            )
        files: Any = configs[self.configuration] or []
        if isinstance(files, list) and files and isinstance(files[0], dict):
            splits = {entry["split"]: entry["path"] for entry in files}
            if self.split not in splits:
                raise ValueError(f"dataset {self.name} has no split {self.split!r}: choose one of {', '.join(splits)}")
            files = splits[self.split]
        return [files] if isinstance(files, str) else list(files)

    def _fetch(self, patterns: list[str]) -> pathlib.Path:
        folder = pathlib.Path(self.name)
        if folder.is_dir():
            return folder
        import huggingface_hub

        return pathlib.Path(
            huggingface_hub.snapshot_download(
                self.name, repo_type="dataset", revision=self.revision, allow_patterns=patterns
            )
        )


def _inside(pattern: str, name: str) -> str:
    """ValueError for a glob that leaves the dataset's folder."""
    path = pathlib.PurePosixPath(pattern)
    stars = any("**" in part and part != "**" for part in path.parts)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in pattern or stars:
        raise ValueError(f"dataset {name}: its card names {pattern!r}, which is no glob in its folder")
    return pattern


def _card(folder: pathlib.Path) -> DatasetCard:
    """The metadata at the head of a dataset's README."""
    readme = folder / "README.md"
    if not readme.is_file():
        return {}
    import huggingface_hub
    import yaml

    untrusted.read_text(readme, max_bytes=MOST_CARD)  # UTF-8, and not endless
    try:
        card: Any = huggingface_hub.metadata_load(readme) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{readme}: its metadata cannot be read: {' '.join(str(error).split())[:300]}") from None
    untrusted.check_shape(card, DatasetCard, where=str(readme))
    found: DatasetCard = card
    return found
