"""The interface of all text sources."""

import abc
import dataclasses
import pathlib
from collections.abc import Iterator


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
