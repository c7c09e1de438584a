"""Reads documents from a dataset of the Hugging Face Hub, without the `datasets` package."""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any, NotRequired, TypedDict

from distilbert_jax.data.sources import readers
from distilbert_jax.data.sources.base import Source
from distilbert_jax.io import untrusted
from distilbert_jax.io.files import expand_path

MAX_CARD_BYTES = 2**24


class CardSplit(TypedDict):
    """One split in a dataset's card, and the globs of its files."""

    split: str
    path: str | list[str]


class CardConfiguration(TypedDict):
    """One configuration in a dataset's card, and the files that belong to it."""

    config_name: str
    data_files: NotRequired[str | list[str] | list[CardSplit]]


class DatasetCard(TypedDict):
    """The part that is used of the metadata at the head of a dataset's README."""

    license: NotRequired[str | list[str] | None]
    configs: NotRequired[list[CardConfiguration]]


@dataclasses.dataclass(frozen=True)
class HubDataset(Source):
    """A dataset of the Hugging Face Hub. Its Parquet, JSONL or text files are read directly.

    Attributes:
        name: a Hub id, such as "wikimedia/wikipedia", or a local folder with the same layout.
        configuration: a configuration of the dataset. Its files are those that the card lists, or if the card lists no
            configurations, those in the folder of that name.
        revision: a commit, tag or branch. Give a commit for a run that can be repeated.
        split: one of the dataset's splits.
        field: the field or column that holds the text.
    """

    name: str
    _: dataclasses.KW_ONLY
    configuration: str = "default"
    revision: str = "main"
    split: str = "train"
    field: str = "text"

    def files(self) -> list[pathlib.Path]:
        """Downloads the files of the configuration and split, and returns them sorted by name."""
        # The card comes first: it says which of the repository's files are needed.
        folder = self._download(["README.md"])
        patterns = [_check_pattern(pattern, self.name) for pattern in self._patterns(_read_card(folder))]
        folder = self._download(patterns)
        files = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
        if not files:
            raise ValueError(
                f"dataset {self.name}: no files for configuration {self.configuration!r}, split {self.split!r} "
                f"({', '.join(patterns)})"
            )
        readers.check_format(files)
        return files

    def read(self, path: pathlib.Path) -> Iterator[str]:
        """Yields the documents of one file."""
        return readers.read_documents(path, field=self.field)

    def local_files(self) -> list[pathlib.Path] | None:
        """Returns the files if the dataset is a local folder. Otherwise the Hub would have to be asked."""
        return self.files() if self.folders() else None

    def folders(self) -> list[pathlib.Path]:
        """Returns the dataset's folder if it is a local one."""
        folder = expand_path(self.name)
        return [folder] if folder.is_dir() else []

    def license(self) -> str:
        """Returns the licence that the dataset's card states."""
        stated = _read_card(self._download(["README.md"])).get("license") or "not stated"
        return ", ".join(stated) if isinstance(stated, list) else str(stated)

    def _patterns(self, card: DatasetCard) -> list[str]:
        """Returns the globs of this configuration and split."""
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

    def _download(self, patterns: list[str]) -> pathlib.Path:
        """Downloads the files that match, and returns the dataset's folder. A local folder is returned as it is."""
        if local := self.folders():
            return local[0]
        import huggingface_hub

        return pathlib.Path(
            huggingface_hub.snapshot_download(
                self.name, repo_type="dataset", revision=self.revision, allow_patterns=patterns
            )
        )


def _check_pattern(pattern: str, name: str) -> str:
    """Returns `pattern`, a glob from the card of dataset `name`. Raises ValueError if it leaves the dataset's folder.

    `**` inside a longer part is refused too, because pathlib raises an error of its own for it.
    """
    path = pathlib.PurePosixPath(pattern)
    has_bad_stars = any("**" in part and part != "**" for part in path.parts)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in pattern or has_bad_stars:
        raise ValueError(
            f"dataset {name}: its card names the files {pattern!r}. This pattern is refused, because it is empty, "
            "leads outside of the dataset's folder, or has ** inside a name. Correct the card, or choose another "
            "dataset."
        )
    return pattern


def _read_card(folder: pathlib.Path) -> DatasetCard:
    """Reads the metadata at the head of a dataset's README; an absent README gives an empty card."""
    readme = folder / "README.md"
    if not readme.is_file():
        return {}
    import huggingface_hub
    import yaml

    untrusted.read_text(readme, max_bytes=MAX_CARD_BYTES)  # checks size and UTF-8 before the library reads the file
    try:
        content: Any = huggingface_hub.metadata_load(readme) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{readme}: its metadata cannot be read: {' '.join(str(error).split())[:300]}") from None
    untrusted.check_shape(content, DatasetCard, where=str(readme))
    card: DatasetCard = content
    return card
