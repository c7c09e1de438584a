"""Reads documents from TensorFlow Datasets, without TensorFlow."""

import dataclasses
import importlib
import pathlib
from collections.abc import Iterator
from typing import Any

from distilbert_jax.data.sources.base import Source


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
        raise ValueError(f"TFDS {self.name}: its files are read together, by one machine: leave --ray-address out")

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
