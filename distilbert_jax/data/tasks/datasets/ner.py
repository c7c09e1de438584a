"""Named entity recognition: a reader for CoNLL's column format.

Each line has a word, and its tag in the last column; a blank line ends a sentence. Columns are separated by tabs, or
by spaces in a line without a tab. Other spaces of Unicode, such as a no-break space in a number, are part of a word.
CoNLL-2003 (Tjong Kim Sang and De Meulder, 2003) has four columns, WNUT-17 (Derczynski et al., 2017) has two.
"""

import pathlib
import re

from distilbert_jax.data.tasks.examples import TaggedSentence
from distilbert_jax.io import untrusted

_BLANKS = " \t\r"  # split() and strip() would also take the spaces of Unicode
_DOCUMENT_MARK = "-DOCSTART-"  # CoNLL-2003 has a line with this in front of each article


def read(path: pathlib.Path) -> list[TaggedSentence]:
    """Returns the sentences of a file. A sentence whose lines have only one column has no tags.

    Raises:
        ValueError: only some words of a sentence have a tag, or a tag is not O, B-TYPE or I-TYPE; the message names
            the line.
    """
    sentences: list[TaggedSentence] = []
    current: list[list[str]] = []  # the lines of the current sentence: [word] or [word, tag]

    def end_sentence(end_line: int) -> None:
        """Appends the sentence that ends before this line, if it has words, and begins the next."""
        if current:
            words, *tags = zip(*current, strict=True)
            location = f"{path}, line {end_line - len(current)}"
            sentences.append(TaggedSentence(words=words, tags=tags[0] if tags else (), location=location))
        current.clear()

    lines = untrusted.read_text(path).split("\n")
    for number, line in enumerate(lines, 1):
        content = line.strip(_BLANKS)
        columns = line.split("\t") if "\t" in line else re.split(" +", content)
        columns = [column.strip(_BLANKS) for column in columns]
        if not content or columns[0] == _DOCUMENT_MARK:
            end_sentence(number)
            continue
        word, tags = columns[0], columns[1:][-1:]
        if not word or (current and len(tags) != len(current[0]) - 1):
            raise ValueError(
                f"{path}, line {number}: {line!r} does not have the same columns as the lines before; each line of a "
                "sentence needs a word and a tag, or a word alone"
            )
        if tags and tags[0] != "O" and tags[0][:2] not in ("B-", "I-"):
            raise ValueError(f"{path}, line {number}: the tag {tags[0]!r} is not O, B-TYPE or I-TYPE")
        if tags and " " in tags[0]:
            raise ValueError(
                f"{path}, line {number}: the tag {tags[0]!r} has a space in it; separate all columns by tabs, or "
                "all by spaces"
            )
        current.append([word, *tags])
    end_sentence(len(lines) + 1)
    if not sentences:
        raise ValueError(f"{path}: the file has no sentences")
    return sentences
