"""The English prose that is on every machine already: what the Python installation and this project's packages say
of themselves.
"""

import dataclasses
import pathlib
import re
import sysconfig
from collections.abc import Iterator

from distilbert_jax.data.sources.base import Source

_DOCSTRING = re.compile(r'"""(.*?)"""', re.DOTALL)
_PARAGRAPHS = re.compile(r"\n\s*\n")
_NOT_PROSE = re.compile(r"[^a-zA-Z ,.'\n]")


@dataclasses.dataclass(frozen=True)
class InstalledProse(Source):
    """The prose in the docstrings of Python and some packages: several MB, the same for the same interpreter and
    versions.

    A document is one docstring; of it, the paragraphs that read as sentences: capital first, full stop last, next to no
    symbols.
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
        library = pathlib.Path(sysconfig.get_path("stdlib"))
        installed = pathlib.Path(sysconfig.get_path("purelib"))
        python = [
            p
            for p in library.rglob("*.py")
            if not {"site-packages", "test", "tests"} & set(p.relative_to(library).parts)
        ]
        return sorted(python) + [p for name in self.packages for p in sorted((installed / name).rglob("*.py"))]

    def read(self, path: pathlib.Path) -> Iterator[str]:
        for docstring in _DOCSTRING.findall(path.read_text(encoding="utf-8", errors="replace")):
            prose = [
                flat for paragraph in _PARAGRAPHS.split(docstring) if _is_prose(flat := " ".join(paragraph.split()))
            ]
            if prose:
                yield "\n".join(prose)

    def license(self) -> str:
        return "as each package states: PSF-2.0, BSD-3-Clause, Apache-2.0, MIT"


def _is_prose(paragraph: str) -> bool:
    return (
        len(paragraph) >= 60
        and paragraph[0].isupper()
        and paragraph[-1] in ".:?!"
        and len(_NOT_PROSE.findall(paragraph)) < 0.07 * len(paragraph)
    )
