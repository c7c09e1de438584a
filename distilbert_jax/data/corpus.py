"""Sources of documents: files on disk, datasets of the Hub, datasets of TFDS. Each gives an iterator of str, read as
a stream.
"""

import abc
import dataclasses
import glob
import importlib
import pathlib
from collections.abc import Iterator
from typing import Any, NotRequired, TypedDict

from distilbert_jax import untrusted
from distilbert_jax.data import readers

MOST_CARD = 2**24  # bytes


class Split(TypedDict):
    """Of a dataset's card: a split, and the globs of its files."""

    split: str
    path: str | list[str]


class Configuration(TypedDict):
    """Of a dataset's card."""

    config_name: str
    data_files: NotRequired[str | list[str] | list[Split]]


class Card(TypedDict):
    """What is read of the metadata at the head of a dataset's README."""

    license: NotRequired[str | list[str] | None]
    configs: NotRequired[list[Configuration]]


@dataclasses.dataclass(frozen=True)
class Source(abc.ABC):
    """Where documents come from. Reading it twice gives the same documents in the same order."""

    @abc.abstractmethod
    def files(self) -> list[pathlib.Path]:
        """Every file it reads, in order: the manifest keeps their hashes."""

    @abc.abstractmethod
    def read(self, path: pathlib.Path) -> Iterator[str]:
        """The documents of one of its files. ValueError where a file cannot be read by itself."""

    def documents(self) -> Iterator[str]:
        """The documents of all files, one at a time."""
        for path in self.files():
            yield from self.read(path)

    def license(self) -> str:
        """What the source says of its licence, for the manifest and the model card."""
        return "not stated"


@dataclasses.dataclass(frozen=True)
class Files(Source):
    """Text on disk: files, folders (searched whole) and globs.

    `.jsonl` and `.parquet` files give the value of `field`, one document a record. Anything else is text: a document is
    a block between blank lines. `.gz`, `.xz` and `.zst` are unpacked on the way.
    """

    paths: str | tuple[str, ...]
    _: dataclasses.KW_ONLY
    field: str = "text"

    def files(self) -> list[pathlib.Path]:
        found: list[pathlib.Path] = []
        for path in (self.paths,) if isinstance(self.paths, str) else self.paths:
            names = glob.glob(path, recursive=True)
            if not names:
                raise ValueError(f"no such file, folder or glob: {path!r}")
            for name in sorted(map(pathlib.Path, names)):
                found += sorted(p for p in name.rglob("*") if p.is_file()) if name.is_dir() else [name]
        if not found:
            raise ValueError(f"no files in {self.paths!r}")
        return found

    def read(self, path: pathlib.Path) -> Iterator[str]:
        return readers.documents(path, field=self.field)


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

    def _patterns(self, card: Card) -> list[str]:
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


@dataclasses.dataclass(frozen=True)
class Tfds(Source):
    """A dataset of TensorFlow Datasets, read without TensorFlow through its random-access files (ArrayRecord)."""

    name: str  # such as "lm1b" or "wiki40b/en"
    _: dataclasses.KW_ONLY
    split: str = "train"
    field: str = "text"
    data_dir: str | None = None

    def files(self) -> list[pathlib.Path]:
        return sorted(
            path for path in pathlib.Path(self._builder().data_dir).iterdir() if f"-{self.split}." in path.name
        )

    def read(self, path: pathlib.Path) -> Iterator[str]:
        raise ValueError(f"TFDS {self.name}: its files are read together, by one machine: leave --cluster out")

    def documents(self) -> Iterator[str]:
        for record in self._builder().as_data_source(split=self.split):
            if self.field not in record:
                raise ValueError(f"TFDS {self.name}: no field {self.field!r}, only {', '.join(record)}")
            text = record[self.field]
            yield text.decode() if isinstance(text, bytes) else str(text)

    def license(self) -> str:
        return self._builder().info.redistribution_info.license or "not stated"

    def _builder(self) -> Any:
        return tfds_builder(self.name, self.data_dir)


def tfds_builder(name: str, data_dir: str | None, *, module: str | None = None) -> Any:
    """The dataset on this machine; fetched and prepared where it is not. `module` is where TFDS has it, for one that
    its index finds only once that is imported.
    """
    import tensorflow_datasets as tfds

    if module:
        importlib.import_module(f"tensorflow_datasets.{module}")
    builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
    builder.download_and_prepare()
    return builder


def _inside(pattern: str, name: str) -> str:
    """ValueError for a glob that leaves the dataset's folder."""
    path = pathlib.PurePosixPath(pattern)
    stars = any("**" in part and part != "**" for part in path.parts)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in pattern or stars:
        raise ValueError(f"dataset {name}: its card names {pattern!r}, which is no glob in its folder")
    return pattern


def _card(folder: pathlib.Path) -> Card:
    """The metadata at the head of a dataset's README."""
    readme = folder / "README.md"
    if not readme.is_file():
        return {}
    import huggingface_hub
    import yaml

    untrusted.text(readme, most=MOST_CARD)  # UTF-8, and not endless
    try:
        card: Any = huggingface_hub.metadata_load(readme) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{readme}: its metadata cannot be read: {' '.join(str(error).split())[:300]}") from None
    untrusted.demand(card, Card, where=str(readme))
    found: Card = card
    return found
