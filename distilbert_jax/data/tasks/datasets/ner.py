"""Named entities in CoNLL's columns: a word a line, its tag in the last column, a blank line between sentences.

CoNLL-2003 (Tjong Kim Sang and De Meulder, 2003) has four columns, WNUT-17 (Derczynski et al., 2017) two.
"""

import pathlib

from distilbert_jax.data.tasks.examples import TaggedSentence
from distilbert_jax.io import untrusted

_DOCUMENT = "-DOCSTART-"  # CoNLL-2003 writes one in front of each article


def read(path: pathlib.Path) -> list[TaggedSentence]:
    """The sentences of a file; one whose lines are a word alone has no tags. Raises ValueError, naming the line, where
    only some words have one, or a tag is none.
    """
    sentences: list[TaggedSentence] = []
    lines: list[list[str]] = []  # of a sentence: the word, and the tag where there is one

    def end() -> None:
        if lines:
            words, *tags = zip(*lines, strict=True)
            sentences.append(TaggedSentence(words=words, tags=tags[0] if tags else ()))
        lines.clear()

    for number, line in enumerate(untrusted.read_text(path).split("\n"), 1):
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
