"""Named entities in CoNLL's columns: a word a line, its tag in the last column, a blank line between sentences.

CoNLL-2003 (Tjong Kim Sang and De Meulder, 2003) has four columns, WNUT-17 (Derczynski et al., 2017) two.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from distilbert_jax import untrusted

_DOCUMENT = "-DOCSTART-"  # CoNLL-2003 writes one in front of each article


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sentence:
    """Its words, and a tag for each: O, B-TYPE, I-TYPE; no tags where they are not known."""

    words: tuple[str, ...]
    tags: tuple[str, ...]


def read(path: pathlib.Path) -> list[Sentence]:
    """The sentences of a file; one whose lines are a word alone has no tags. Raises ValueError, naming the line, where
    only some words have one, or a tag is none.
    """
    sentences: list[Sentence] = []
    lines: list[list[str]] = []  # of a sentence: the word, and the tag where there is one

    def end() -> None:
        if lines:
            words, *tags = zip(*lines, strict=True)
            sentences.append(Sentence(words=words, tags=tags[0] if tags else ()))
        lines.clear()

    for number, line in enumerate(untrusted.text(path).split("\n"), 1):
        columns = line.rstrip("\r").split("\t") if "\t" in line else line.split()
        if not line.strip() or columns[0] == _DOCUMENT:
            end()
            continue
        word, tags = columns[0], [column.strip() for column in columns[1:][-1:]]
        if not word or (lines and len(tags) != len(lines[0]) - 1):
            raise ValueError(f"{path}, line {number}: {line!r} is not a word and a tag, as the lines before it")
        if tags and tags[0] != "O" and tags[0][:2] not in ("B-", "I-"):
            raise ValueError(f"{path}, line {number}: the tag {tags[0]!r} is not O, B-TYPE or I-TYPE")
        lines.append([word, *tags])
    end()
    if not sentences:
        raise ValueError(f"{path}: no sentences")
    return sentences


def labels(sentences: Sequence[Sentence]) -> tuple[str, ...]:
    """Every tag that may come: O, then B- and I- of each type, whether or not both stand in these sentences."""
    types = sorted({tag[2:] for sentence in sentences for tag in sentence.tags if tag != "O"})
    return ("O", *(f"{prefix}-{kind}" for kind in types for prefix in ("B", "I")))


def units(sentences: Sequence[Sentence], predictions: Sequence[Sequence[str]]) -> np.ndarray:
    """[sentences, 3]: how many entities are found right, found, and there.

    Raises ValueError where a sentence has not one prediction a word.
    """
    counts = []
    for number, (sentence, tags) in enumerate(zip(sentences, predictions, strict=True), 1):
        if len(sentence.tags) != len(tags):
            raise ValueError(f"sentence {number} has {len(sentence.tags)} words, but {len(tags)} tags are predicted")
        wanted, found = entities(sentence.tags), entities(tags)
        counts.append((len(wanted & found), len(found), len(wanted)))
    return np.array(counts, float)


def entities(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """(type, first word, word after the last) of each, as CoNLL's script reads tags: I- after O or after another type
    begins an entity, too.
    """
    found = set()
    start = None
    for at, tag in enumerate([*tags, "O"]):
        begins = tag != "O" and (tag[0] == "B" or at == 0 or tags[at - 1] == "O" or tags[at - 1][2:] != tag[2:])
        if start is not None and (tag == "O" or begins):
            found.add((tags[start][2:], start, at))
            start = None
        if begins:
            start = at
    return found


def measure(units: np.ndarray) -> dict[str, float]:
    """Precision, recall and F1 over whole entities, in per cent. 0 where there is nothing to count."""
    right, found, there = units.sum(axis=0).tolist()
    share = lambda of: 100 * right / of if of else 0.0
    return {"precision": share(found), "recall": share(there), "f1": share((found + there) / 2)}
