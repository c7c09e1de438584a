"""Reads documents from TensorFlow Datasets, without TensorFlow."""

import dataclasses
import importlib
import pathlib
from collections.abc import Iterator
from typing import Any

from distilbert_jax.data.sources.base import Source
from distilbert_jax.io.files import expand_path


@dataclasses.dataclass(frozen=True)
class Tfds(Source):
    """A dataset of TensorFlow Datasets (TFDS), read without TensorFlow from its random-access files (ArrayRecord).

    Attributes:
        name: a TFDS name, such as "lm1b" or "wiki40b/en".
        split: one of the dataset's splits.
        field: the feature that holds the text.
        data_dir: the folder of prepared datasets. None is the default of TFDS.
    """

    name: str
    _: dataclasses.KW_ONLY
    split: str = "train"
    field: str = "text"
    data_dir: str | None = None

    def files(self) -> list[pathlib.Path]:
        """Returns the files of the split, sorted by name."""
        return sorted(
            path for path in pathlib.Path(self._builder().data_dir).iterdir() if f"-{self.split}." in path.name
        )

    def read(self, path: pathlib.Path) -> Iterator[str]:
        """Raises ValueError: TFDS reads the files of a split together."""
        raise ValueError(
            f"TFDS {self.name}: its files are read together, on one machine; prepare this corpus without --ray-address"
        )

    def documents(self) -> Iterator[str]:
        """Yields the documents of the split."""
        for record in self._builder().as_data_source(split=self.split):
            if self.field not in record:
                raise ValueError(f"TFDS {self.name}: no field {self.field!r}, only {', '.join(record)}")
            text = record[self.field]
            yield text.decode() if isinstance(text, bytes) else str(text)

    def license(self) -> str:
        """Returns the licence that TFDS states."""
        return self._builder().info.redistribution_info.license or "not stated"

    def _builder(self) -> Any:
        """Returns the TFDS builder of the dataset."""
        return tfds_builder(self.name, str(expand_path(self.data_dir)) if self.data_dir else None)


def tfds_builder(name: str, data_dir: str | None, *, module: str | None = None) -> Any:
    """Returns the TFDS builder of a dataset. Downloads and prepares the dataset if this machine does not have it.

    Args:
        name: the TFDS name.
        data_dir: the folder of prepared datasets. None is the default of TFDS.
        module: the module below `tensorflow_datasets` that defines the dataset. Some datasets are registered only when
            this module is imported.
    """
    import tensorflow_datasets as tfds

    if module:
        importlib.import_module(f"tensorflow_datasets.{module}")
    builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
    builder.download_and_prepare()
    return builder
