"""Custom tasks: the user's own text classification or regression data, described by the columns of its files.

The folder contains train.csv and dev.csv, or the same as .jsonl. Each line has a column `text`, an optional second text
`text_pair`, and at most one of these columns for the label:

    label           one class, by name
    score           a number (regression)
    labels          any number of classes (multi-label): a list in JSONL, a|b in CSV
    probabilities   soft labels: {"name": p, …} in JSONL; one column `probability:NAME` for each class in CSV

A line without any of them has no label; only a teacher can train on it.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict

from distilbert_jax.data.tasks import metrics
from distilbert_jax.data.tasks.examples import Example, parse_finite
from distilbert_jax.data.tasks.task_types.classification import Classification
from distilbert_jax.io import untrusted

_LABEL_COLUMNS = ("label", "score", "labels", "probabilities")
_PROBABILITY_PREFIX = "probability:"


class CustomLine(TypedDict, total=False):
    """A line of a JSONL file."""

    text: str
    text_pair: str | None
    label: str | int | float | bool | None
    score: str | float | None
    labels: str | list[str | int | float | bool] | None
    probabilities: dict[str, str | float] | str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class CustomRecord:
    """A checked line of a file."""

    location: str  # file and line, for error messages
    texts: tuple[str, ...]
    column: str | None  # the label column that is filled in; None if the line has no label
    value: Any  # str (label), float (score), tuple of str (labels), dict of str to float (probabilities) or None


def infer_task_type(folder: pathlib.Path) -> Classification:
    """Infers the task type and its classes from the labels of the training file.

    If the training file has no labels at all, they are taken from the dev file. The classes are in alphabetical order.

    Raises:
        ValueError: there are no labels, they are in different columns, or there are too few classes to learn anything.
    """
    records = read_records(folder, "train")
    if not any(record.column for record in records):
        records = read_records(folder, "dev")
    columns = {record.column for record in records if record.column}
    if not columns:
        raise ValueError(
            f"{folder}: neither the train nor the dev file has labels; fill in one of the columns "
            f"{', '.join(_LABEL_COLUMNS)}"
        )
    if len(columns) > 1 and columns != {"label", "probabilities"}:
        raise ValueError(
            f"{folder}: the labels are in more than one column: {', '.join(sorted(columns))}; keep only one of them"
        )
    if columns == {"score"}:
        return Classification(labels=(), metrics=(metrics.pearson_correlation, metrics.spearman_correlation))
    names = {
        name
        for record in records
        if record.column
        for name in ([record.value] if record.column == "label" else record.value)
    }
    if not names:
        raise ValueError(f"{folder}: the column labels is empty on every line of the training file; name the classes")
    if len(names) < 2 and columns != {"labels"}:
        raise ValueError(
            f"{folder}: all labels of the training file are {names.pop()!r}; training needs at least two classes"
        )
    multi_label = columns == {"labels"}
    return Classification(
        labels=tuple(sorted(names)),
        metrics=(metrics.micro_f1, metrics.macro_f1) if multi_label else (metrics.accuracy, metrics.macro_f1),
        multi_label=multi_label,
    )


def read(folder: pathlib.Path, split: str, *, labels: Sequence[str]) -> list[Example]:
    """Returns the examples of a split.

    Args:
        folder: the folder of the task.
        split: the file name without suffix, such as "train" or "dev".
        labels: the classes of the task; their order gives their numbers.

    Raises:
        ValueError: a file is missing or a line is wrong; the message names file and line.
    """
    return [
        Example(id=str(number), texts=record.texts, label=_encode_label(record, labels))
        for number, record in enumerate(read_records(folder, split))
    ]


def read_records(folder: pathlib.Path, split: str) -> list[CustomRecord]:
    """Returns the lines of SPLIT.csv or SPLIT.jsonl.

    Raises:
        ValueError: not exactly one of the two files exists, or a line is wrong; the message names file and line.
    """
    paths = [folder / f"{split}{suffix}" for suffix in (".csv", ".jsonl") if (folder / f"{split}{suffix}").is_file()]
    if len(paths) != 1:
        raise ValueError(
            f"{folder} contains {'both' if paths else 'neither'} {split}.csv {'and' if paths else 'nor'} "
            f"{split}.jsonl; exactly one of them is needed"
        )
    records = [_parse_record(f"{paths[0]}, line {line}", row) for line, row in _iter_lines(paths[0])]
    if not records:
        raise ValueError(f"{paths[0]}: the file has no examples")
    if len({len(record.texts) for record in records}) > 1:
        raise ValueError(f"{paths[0]}: some lines have a text_pair and others do not; give all lines one, or none")
    return records


def _iter_lines(path: pathlib.Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (line number, {column: value}); the probability columns of a CSV file become one dictionary."""
    if path.suffix == ".csv":
        for line, row in untrusted.read_table(path):
            names = [name for name in row if name.startswith(_PROBABILITY_PREFIX) and row[name] != ""]
            probabilities = {name.removeprefix(_PROBABILITY_PREFIX): row.pop(name) for name in names}
            yield line, row | ({"probabilities": probabilities} if probabilities else {})
        return
    for number, text in enumerate(untrusted.read_text(path).split("\n"), 1):
        if text.strip():
            yield number, untrusted.parse_json(text, CustomLine, where=f"{path}, line {number}")


def _parse_record(location: str, row: Mapping[str, Any]) -> CustomRecord:
    """Checks one line and converts its label. Raises ValueError with the location if it is wrong."""
    if not isinstance(row.get("text"), str):
        raise ValueError(f"{location}: there is no column `text`, only {', '.join(row)}")
    texts = (row["text"],) if row.get("text_pair") is None else (row["text"], row["text_pair"])
    filled = [column for column in _LABEL_COLUMNS if row.get(column) not in (None, "")]
    if len(filled) > 1:
        raise ValueError(f"{location}: {' and '.join(filled)} are both filled in; keep only one of them")
    column = filled[0] if filled else None
    value: Any = row[column] if column else None
    if column == "label":
        value = str(value)
    if column == "labels":
        value = tuple(value.split("|") if isinstance(value, str) else map(str, value))
    if column in ("score", "probabilities"):
        try:
            value = parse_finite(value) if column == "score" else {name: parse_finite(p) for name, p in value.items()}
        except (ValueError, AttributeError):
            expected = "a finite number" if column == "score" else "a finite number for each class"
            raise ValueError(f"{location}: {column} {value!r} is not {expected}") from None
    if column == "probabilities" and (not value or min(value.values()) < 0 or abs(sum(value.values()) - 1) > 1e-3):
        lowest = min(value.values(), default=0)
        problem = f"one is {lowest:g}" if lowest < 0 else f"their sum is {sum(value.values()):g}"
        raise ValueError(f"{location}: the probabilities must each be at least 0 and their sum 1, but {problem}")
    return CustomRecord(location=location, texts=texts, column=column, value=value)


def _encode_label(record: CustomRecord, labels: Sequence[str]) -> int | float | tuple[float, ...] | None:
    """Returns the label as `Example.label`. Raises ValueError if it names a class that is not in `labels`."""
    if record.column in (None, "score"):
        return record.value
    names = [record.value] if record.column == "label" else list(record.value)
    unknown = [name for name in names if name not in labels]
    if unknown:
        raise ValueError(f"{record.location}: the label {unknown[0]!r} is not one of {', '.join(labels)}")
    if record.column == "label":
        return list(labels).index(record.value)
    if record.column == "labels":
        return tuple(float(name in record.value) for name in labels)
    return tuple(record.value.get(name, 0.0) for name in labels)
