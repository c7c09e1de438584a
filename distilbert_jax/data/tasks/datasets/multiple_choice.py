"""Readers for the released files of three multiple choice datasets.

SWAG (Zellers et al., 2018), CODAH (Chen et al., 2019) and PIQA (Bisk et al., 2020).
"""

import pathlib
from collections.abc import Iterator
from typing import TypedDict

from distilbert_jax.data.tasks.examples import ChoiceQuestion
from distilbert_jax.io import tables, untrusted

_SWAG_COLUMNS = ("sent1", "sent2", "ending0", "ending1", "ending2", "ending3")


class PiqaLine(TypedDict):
    """A line of a PIQA file: a goal and two ways to reach it."""

    goal: str
    sol1: str
    sol2: str


def read_swag(path: pathlib.Path) -> list[ChoiceQuestion]:
    """Reads train.csv, val.csv or test.csv of SWAG's regular layout.

    The question is the first sentence; each choice is the beginning of the second sentence with one of four endings.

    Raises:
        ValueError: the file does not have this layout, or a label is not a number from 0 to 3.
    """
    rows = list(tables.read_csv(path))
    missing = [name for name in _SWAG_COLUMNS if not rows or name not in rows[0][1]]
    if missing:
        raise ValueError(
            f"{path}: there is no column {missing[0]!r}; the file is empty or not in SWAG's regular layout"
        )
    return [
        _make_question(
            path,
            number,
            first=row["sent1"],
            choices=tuple(f"{row['sent2']} {row[f'ending{i}']}".strip() for i in range(4)),
            label=row.get("label"),
        )
        for number, row in rows
    ]


def read_codah(path: pathlib.Path) -> list[ChoiceQuestion]:
    """Reads a .tsv file of CODAH: category, prompt, four endings and the number of the right one, without a header.

    Raises:
        ValueError: a line has more or fewer columns, or a label is not a number from 0 to 3.
    """
    return [
        _make_question(path, number, first=cells[1], choices=tuple(cells[2:6]), label=cells[6])
        for number, cells in _iter_tsv_rows(path, num_columns=7)
    ]


def read_piqa(path: pathlib.Path) -> list[ChoiceQuestion]:
    """Reads a .jsonl file of PIQA. Its labels are in `NAME-labels.lst` in the same folder, if they are known.

    Raises:
        ValueError: a line is not a question of PIQA, or there are more or fewer labels than questions.
    """
    rows = list(tables.read_json_lines(path, PiqaLine, what="a question of PIQA"))
    labels_path = path.with_name(f"{path.stem}-labels.lst")
    labels: list[str | None] = [None] * len(rows)
    if labels_path.is_file():
        lines = [line.strip() for line in untrusted.read_text(labels_path).split("\n")]
        labels = [line for line in lines if line]
    if len(labels) != len(rows):
        raise ValueError(f"{labels_path} has {len(labels)} labels, but {path.name} has {len(rows)} questions")
    if not rows:
        raise ValueError(f"{path}: the file has no questions")
    return [
        _make_question(path, number, first=row["goal"], choices=(row["sol1"], row["sol2"]), label=label)
        for (number, row), label in zip(rows, labels, strict=True)
    ]


def _iter_tsv_rows(path: pathlib.Path, *, num_columns: int) -> Iterator[tuple[int, list[str]]]:
    """Yields (line number, cells). Quotes have no meaning."""
    lines = [(number, line) for number, line in enumerate(untrusted.read_text(path).split("\n"), 1) if line.strip()]
    if not lines:
        raise ValueError(f"{path}: the file has no questions")
    for number, line in lines:
        cells = line.rstrip("\r").split("\t")
        if len(cells) != num_columns:
            raise ValueError(f"{path}, line {number}: {len(cells)} columns, but {num_columns} are needed")
        yield number, cells


def _make_question(
    path: pathlib.Path, line: int, *, first: str, choices: tuple[str, ...], label: str | None
) -> ChoiceQuestion:
    """Returns a question. Raises ValueError if its label is not the number of a choice."""
    numbers = [str(i) for i in range(len(choices))]
    if label is not None and label not in numbers:
        raise ValueError(f"{path}, line {line}: the label {label!r} is not one of {', '.join(numbers)}")
    return ChoiceQuestion(
        first=first, choices=choices, label=None if label is None else int(label), location=f"{path}, line {line}"
    )
