"""Defines the interface of all text sources."""

import abc
import dataclasses
import pathlib
from collections.abc import Iterator


@dataclasses.dataclass(frozen=True)
class Source(abc.ABC):
    """A place that documents are read from. Reading it twice gives the same documents in the same order.

    The `repr` of a source is part of the manifest: it decides whether prepared shards belong to a configuration.
    """

    @abc.abstractmethod
    def files(self) -> list[pathlib.Path]:
        """Returns every file of the source in reading order. The manifest keeps their hashes.

        Raises:
            ValueError: If there are none.
        """

    @abc.abstractmethod
    def read(self, path: pathlib.Path) -> Iterator[str]:
        """Yields the documents of one of its files.

        Raises:
            ValueError: If the content is not what the source expects, or a file cannot be read by itself.
        """

    def documents(self) -> Iterator[str]:
        """Yields the documents of all files, one at a time."""
        for path in self.files():
            yield from self.read(path)

    def local_files(self) -> list[pathlib.Path] | None:
        """Returns the files that would be read now, in reading order; none if the text is not on this machine.

        It is how files are found that were added to a source, or removed from it, since its shards were made. None
        says that they cannot be known here, as without a download; then only the files of the manifest are compared.
        """
        return None

    def folders(self) -> list[pathlib.Path]:
        """Returns the folders in which the source looks for files. Nothing else may be written there."""
        return []

    def skipped(self) -> list[pathlib.Path]:
        """Returns what its folders contain that is not read, because it is hidden or describes a dataset."""
        return []

    def license(self) -> str:
        """Returns the licence that the source states, for the manifest and the model card."""
        return "not stated"
