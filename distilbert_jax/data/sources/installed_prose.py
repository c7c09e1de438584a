"""Reads English prose from the docstrings of Python and of installed packages: a corpus that needs no download."""

import dataclasses
import pathlib
import re
import sysconfig
from collections.abc import Iterator

from distilbert_jax.data.sources.base import Source

_DOCSTRING = re.compile(r'"""(.*?)"""', re.DOTALL)
_PARAGRAPH_BREAK = re.compile(r"\n\s*\n")
_NON_PROSE_CHARACTER = re.compile(r"[^a-zA-Z ,.'\n]")


@dataclasses.dataclass(frozen=True)
class InstalledProse(Source):
    """The prose in the docstrings of Python and some packages: several MB of text.

    It is the same wherever the versions of the interpreter and of the packages are the same. A document is made of one
    docstring: of its paragraphs that read as sentences, with a capital first, a full stop last and few symbols.

    Attributes:
        packages: the installed packages that are read after Python's standard library.
    """

    packages: tuple[str, ...] = (
        "absl",
        "flax",
        "grain",
        "huggingface_hub",
        "jax",
        "matplotlib",
        "numpy",
        "optax",
        "orbax",
        "rich",
        "scipy",
    )

    def files(self) -> list[pathlib.Path]:
        """Returns the Python files of the standard library without its tests, then those of the packages."""
        library = pathlib.Path(sysconfig.get_path("stdlib"))
        installed = pathlib.Path(sysconfig.get_path("purelib"))
        python = [
            p
            for p in library.rglob("*.py")
            if not {"site-packages", "test", "tests"} & set(p.relative_to(library).parts)
        ]
        return sorted(python) + [p for name in self.packages for p in sorted((installed / name).rglob("*.py"))]

    def read(self, path: pathlib.Path) -> Iterator[str]:
        """Yields the prose of each docstring that has any."""
        for docstring in _DOCSTRING.findall(path.read_text(encoding="utf-8", errors="replace")):
            paragraphs = (" ".join(paragraph.split()) for paragraph in _PARAGRAPH_BREAK.split(docstring))
            prose = [paragraph for paragraph in paragraphs if _is_prose(paragraph)]
            if prose:
                yield "\n".join(prose)

    def license(self) -> str:
        """Returns the licences of the default packages."""
        return "as each package states: PSF-2.0, BSD-3-Clause, Apache-2.0, MIT"


def _is_prose(paragraph: str) -> bool:
    """Returns whether a paragraph on one line reads as sentences."""
    return (
        len(paragraph) >= 60
        and paragraph[0].isupper()
        and paragraph[-1] in ".:?!"
        and len(_NON_PROSE_CHARACTER.findall(paragraph)) < 0.07 * len(paragraph)
    )
