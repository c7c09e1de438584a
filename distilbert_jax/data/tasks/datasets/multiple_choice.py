"""Which ending fits: SWAG (Zellers et al., 2018), CODAH (Chen et al., 2019), PIQA (Bisk et al., 2020), from their files
as they were released.
"""

import pathlib
from collections.abc import Iterator
from typing import TypedDict

from distilbert_jax.data.tasks.examples import ChoiceQuestion
from distilbert_jax.io import untrusted


class Piqa(TypedDict):
    """A line of PIQA: what is to be done, and two ways."""

    goal: str
    sol1: str
    sol2: str


def swag(path: pathlib.Path) -> list[ChoiceQuestion]:
    """train.csv, val.csv or test.csv of the regular layout: the sentence before, then the started one with each of
    four endings.
    """
    rows = list(untrusted.read_table(path))
    wanted = ("sent1", "sent2", "ending0", "ending1", "ending2", "ending3")
    missing = [name for name in wanted if not rows or name not in rows[0][1]]
    if missing:
        raise ValueError(f"{path}: no column {missing[0]!r}; it is not SWAG's regular layout, or it is empty")
    return [
        _checked(
            path,
            number,
            first=row["sent1"],
            choices=tuple(f"{row['sent2']} {row[f'ending{i}']}".strip() for i in range(4)),
            label=row.get("label"),
        )
        for number, row in rows
    ]


def codah(path: pathlib.Path) -> list[ChoiceQuestion]:
    """A tsv of CODAH: kind, prompt, four endings, the number of the right one. No header, and quotes mean nothing."""
    return [
        _checked(path, number, first=cells[1], choices=tuple(cells[2:6]), label=cells[6])
        for number, cells in _rows(path, columns=7)
    ]


def piqa(path: pathlib.Path) -> list[ChoiceQuestion]:
    """A jsonl of PIQA; the right ones stand in `NAME-labels.lst` beside it, if they are known."""
    lines = untrusted.read_text(path).rstrip("\n").split("\n") if path.stat().st_size else []
    beside = path.with_name(f"{path.stem}-labels.lst")
    labels = untrusted.read_text(beside).split() if beside.is_file() else [None] * len(lines)
    if len(labels) != len(lines):
        raise ValueError(f"{beside} has {len(labels)} labels, {path.name} has {len(lines)} questions")
    questions = []
    for number, (line, label) in enumerate(zip(lines, labels, strict=True), 1):
        row: Piqa = untrusted.parse_json(line, Piqa, where=f"{path}, line {number}", what="a question of PIQA")
        questions.append(_checked(path, number, first=row["goal"], choices=(row["sol1"], row["sol2"]), label=label))
    if not questions:
        raise ValueError(f"{path}: no questions")
    return questions


def _rows(path: pathlib.Path, *, columns: int) -> Iterator[tuple[int, list[str]]]:
    lines = [line for line in untrusted.read_text(path).split("\n") if line.strip()]
    if not lines:
        raise ValueError(f"{path}: no questions")
    for number, line in enumerate(lines, 1):
        cells = line.rstrip("\r").split("\t")
        if len(cells) != columns:
            raise ValueError(f"{path}, line {number}: {len(cells)} columns, not {columns}")
        yield number, cells


def _checked(
    path: pathlib.Path, line: int, *, first: str, choices: tuple[str, ...], label: str | None
) -> ChoiceQuestion:
    numbers = [str(i) for i in range(len(choices))]
    if label is not None and label not in numbers:
        raise ValueError(f"{path}, line {line}: the label {label!r} is not one of {', '.join(numbers)}")
    return ChoiceQuestion(first=first, choices=choices, label=None if label is None else int(label))
