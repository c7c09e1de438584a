"""Custom tasks: the user's own text classification or regression data, described by the columns of its files.

The folder contains train.csv and dev.csv, or the same as .tsv or .jsonl. Each row has a column `text`, an optional
second text `text_pair`, and at most one of these columns for the label:

    label           one class, by name
    score           a number (regression)
    labels          any number of classes (multi-label): a list in JSONL, a|b in CSV; [] or | if none of them applies
    probabilities   soft labels: {"name": p, …} in JSONL; one column `probability:NAME` for each class in CSV

A row without any of them has no label; only a teacher can train on it. `label_names` says which values are the same
class, and which mean that there is no label.
"""

import dataclasses
import difflib
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypedDict

from distilbert_jax.data.tasks import label_names, metrics
from distilbert_jax.data.tasks.examples import Example, parse_finite
from distilbert_jax.data.tasks.task_types.classification import NONE_OF_THE_LABELS, Classification
from distilbert_jax.io import tables

_LABEL_COLUMNS = ("label", "score", "labels", "probabilities")
_PROBABILITY_PREFIX = "probability:"
_SUFFIXES = (".csv", ".tsv", ".jsonl")
_LIST_BRACKETS = ("[]", "()", "{}")
_LIST_CONTENT = re.compile(r"""\s*$|\s*['"\d-]|.*,""", re.DOTALL)


class CustomLine(TypedDict, total=False):
    """A line of a JSONL file."""

    text: str
    text_pair: str | None
    label: str | int | float | bool | None
    score: str | float | None
    labels: str | float | list[str | int | float | bool] | None
    probabilities: dict[str, str | float] | str | float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class CustomRecord:
    """A checked line of a file."""

    location: str  # file and line, for error messages
    texts: tuple[str, ...]
    column: str | None  # the label column that is filled in; None if the line has no label
    value: Any  # str (label), float (score), tuple of str (labels), dict of str to float (probabilities) or None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes in the label; none if it is a number or not known."""
        if self.column in (None, "score"):
            return ()
        return (self.value,) if self.column == "label" else tuple(self.value)


def infer_task_type(folder: pathlib.Path, *, unlabelled: str | None = None) -> Classification:
    """Infers the task type and its classes from the labels of the training file.

    If the training file has no labels at all, they are taken from the dev file. The classes are in alphabetical order,
    and those that are numbers in the order of the numbers.

    Args:
        folder: the folder of the task.
        unlabelled: a value that means that there is no label, as for `read`.

    Raises:
        ValueError: there are no labels, they are in different columns, there are too few classes to learn anything, or
            one class is written in two ways.
    """
    records = read_records(folder, "train", unlabelled=unlabelled)
    if not any(record.column for record in records):
        records = read_records(folder, "dev", unlabelled=unlabelled)
    columns = {record.column for record in records if record.column}
    if not columns:
        raise ValueError(
            f"{folder}: neither the train nor the dev file has labels; fill in one of the columns "
            f"{', '.join(_LABEL_COLUMNS)}, or {_PROBABILITY_PREFIX}NAME for each class"
        )
    if len(columns) > 1 and columns != {"label", "probabilities"}:
        raise ValueError(
            f"{folder}: the labels are in more than one column: {', '.join(sorted(columns))}; keep only one of them"
        )
    if columns == {"score"}:
        return Classification(labels=(), metrics=(metrics.pearson_correlation, metrics.spearman_correlation))
    places: dict[str, str] = {}
    for record in records:
        for name in record.class_names:
            places.setdefault(name, record.location)
    if not places:
        raise ValueError(f"{folder}: the column labels is empty on every line of the training file; name the classes")
    if len(places) < 2 and columns != {"labels"}:
        raise ValueError(
            f"{folder}: all labels of the training file are {next(iter(places))!r}; training needs at least two classes"
        )
    label_names.check_distinct(places)
    multi_label = columns == {"labels"}
    return Classification(
        labels=label_names.sort_labels(places),
        metrics=(metrics.micro_f1, metrics.macro_f1) if multi_label else (metrics.accuracy, metrics.macro_f1),
        multi_label=multi_label,
    )


def read(folder: pathlib.Path, split: str, *, labels: Sequence[str], unlabelled: str | None = None) -> list[Example]:
    """Returns the examples of a split.

    Args:
        folder: the folder of the task.
        split: the file name without suffix, such as "train" or "dev".
        labels: the classes of the task; their order gives their numbers.
        unlabelled: a label or score that means that there is no label, such as "-1". If it is given, −1 is otherwise a
            label like every other.

    Raises:
        ValueError: a file is missing or a line is wrong; the message names file and line.
    """
    records = read_records(folder, split, unlabelled=unlabelled)
    if split != "train":
        _check_like_train(records, read_records(folder, "train", unlabelled=unlabelled))
    indices = {
        name: label_names.find_label(name, labels)
        for name in {name for record in records for name in record.class_names}
    }
    return [
        Example(
            id=str(number),
            texts=record.texts,
            label=_encode_label(record, indices, labels),
            location=record.location,
        )
        for number, record in enumerate(records)
    ]


def read_records(folder: pathlib.Path, split: str, *, unlabelled: str | None = None) -> list[CustomRecord]:
    """Returns the rows of SPLIT.csv, SPLIT.tsv or SPLIT.jsonl.

    Raises:
        ValueError: not exactly one of these files exists, or a row is wrong; the message names file and line.
    """
    path = _find_file(folder, split)
    rows = list(_iter_rows(path))
    if not rows:
        raise ValueError(f"{path}: the file has no examples")
    _check_columns(dict.fromkeys(name for _, row in rows for name in row), path)
    records = [_parse_record(f"{path}, line {line}", row, unlabelled) for line, row in rows]
    if len({len(record.texts) for record in records}) > 1:
        raise ValueError(f"{path}: some lines have a text_pair and others do not; give all lines one, or none")
    if unlabelled is None:
        _check_minus_one(records)
    return records


def _check_like_train(records: Sequence[CustomRecord], train: Sequence[CustomRecord]) -> None:
    """Raises ValueError if a split has its labels in another kind of column than train, or other texts."""
    if len(records[0].texts) != len(train[0].texts):
        with_pair, without = (records, train) if len(records[0].texts) > 1 else (train, records)
        raise ValueError(f"{with_pair[0].location}: there is a text_pair, but none in {without[0].location}")
    expected = next((record for record in train if record.column), None)
    for record in records:
        columns = {record.column, expected.column if expected else None} - {None}
        if len(columns) > 1 and columns != {"label", "probabilities"}:
            assert expected is not None
            raise ValueError(
                f"{record.location}: the label is in the column {record.column}, but in {expected.location} it is in "
                f"the column {expected.column}; use the same column in all files of the task"
            )


def _find_file(folder: pathlib.Path, split: str) -> pathlib.Path:
    """Returns the file of a split. Raises ValueError if there is none, or more than one."""
    names = [f"{split}{suffix}" for suffix in _SUFFIXES]
    paths = [folder / name for name in names if (folder / name).is_file()]
    if len(paths) == 1:
        return paths[0]
    if paths:
        raise ValueError(f"{folder} contains {' and '.join(path.name for path in paths)}; keep exactly one of them")
    similar = sorted(path.name for path in folder.iterdir() if path.name.casefold().startswith(f"{split}."))
    raise ValueError(
        f"{folder} contains none of {', '.join(names)}; exactly one of them is needed"
        + (f". Write {similar[0]} in one of these formats" if similar else "")
    )


def _iter_rows(path: pathlib.Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (line number, {column: value}); the probability columns of a CSV file become one dictionary."""
    if path.suffix == ".jsonl":
        yield from tables.read_json_lines(path, CustomLine)
        return
    for line, row in tables.read_csv(path, separator="\t" if path.suffix == ".tsv" else ","):
        names = [name for name in row if name.startswith(_PROBABILITY_PREFIX)]
        probabilities = {name.removeprefix(_PROBABILITY_PREFIX): row.pop(name) for name in names}
        filled = {name: cell for name, cell in probabilities.items() if not label_names.is_missing(cell)}
        yield line, row | ({"probabilities": filled} if filled else {})


def _check_columns(columns: Iterable[str], path: pathlib.Path) -> None:
    """Checks that the columns have the names that are expected, not similar ones.

    Raises:
        ValueError: there is no column `text`, or another column has nearly the name of a label column.
    """
    columns = list(columns)
    known = ("text", "text_pair", *_LABEL_COLUMNS)
    plain = {re.sub(r"[^a-z]", "", name.casefold()): name for name in columns if name not in known}
    has_labels = any(name in _LABEL_COLUMNS or name.startswith(_PROBABILITY_PREFIX) for name in columns)
    for name in ("text", "text_pair") if has_labels else known:
        similar = plain.get(re.sub(r"[^a-z]", "", name))
        if similar and name not in columns:
            raise ValueError(f"{path}: there is no column `{name}`, but a column `{similar}`; rename it to `{name}`")
    if "text" not in columns:
        raise ValueError(f"{path}: there is no column `text`, only {', '.join(columns)}")
    if not has_labels:
        for name in plain.values():
            if near := difflib.get_close_matches(name.casefold(), _LABEL_COLUMNS, n=1, cutoff=0.75):
                raise ValueError(f"{path}: there is a column `{name}`; did you mean `{near[0]}`? Rename it")


def _parse_record(location: str, row: Mapping[str, Any], unlabelled: str | None) -> CustomRecord:
    """Checks one line and converts its label. Raises ValueError with the location if it is wrong."""
    if not isinstance(row.get("text"), str):
        raise ValueError(f"{location}: there is no column `text`, only {', '.join(row)}")
    texts = (row["text"],) if row.get("text_pair") is None else (row["text"], row["text_pair"])
    filled = [column for column in _LABEL_COLUMNS if not label_names.is_missing(row.get(column), unlabelled)]
    if len(filled) > 1:
        raise ValueError(f"{location}: {' and '.join(filled)} are both filled in; keep only one of them")
    no_label = CustomRecord(location=location, texts=texts, column=None, value=None)
    if not filled:
        return no_label
    parsers: dict[str, Callable[[Any], Any]] = {
        "label": _parse_label,
        "score": _parse_score,
        "labels": _parse_labels,
        "probabilities": _parse_probabilities,
    }
    try:
        value = parsers[filled[0]](row[filled[0]])
    except ValueError as error:
        raise ValueError(f"{location}: {error}") from None
    record = CustomRecord(location=location, texts=texts, column=filled[0], value=value)
    if unlabelled is not None and label_names.normalize_label(unlabelled) in record.class_names:
        if len(record.class_names) > 1:
            raise ValueError(f"{location}: {unlabelled} means that there is no label, but there are other labels")
        return no_label
    return record


def _parse_label(value: str | int | float | bool) -> str:
    """Returns the name of a class. Raises ValueError if the value is a list, or cannot be a name."""
    name = _parse_name(value)
    if isinstance(value, str) and _is_bracketed(name) and _LIST_CONTENT.match(name[1:-1]):
        raise ValueError(
            f"the label {name!r} is a list written as text; write the name of one class. For several classes, use the "
            "column labels and write a|b"
        )
    return name


def _parse_score(value: str | int | float) -> float:
    """Returns a score. Raises ValueError if it is not a finite number."""
    try:
        return parse_finite(value)
    except ValueError:
        raise ValueError(f"score {value!r} is not a finite number") from None


def _parse_labels(value: str | int | float | list[str | int | float | bool]) -> tuple[str, ...]:
    """Returns the names of the classes of one text, from a list of JSON or from a cell such as a|b.

    Raises:
        ValueError: the value has another format, or one of its parts is not a name.
    """
    if not isinstance(value, str | list):
        raise ValueError(f"labels {value!r} is neither a list nor a text such as a|b")
    if isinstance(value, list):
        names = tuple(_parse_name(item) for item in value)
        if any("|" in name for name in names):
            raise ValueError(f"labels {value!r} has a name with |, which separates names in other files; rename it")
        if len(set(names)) < len(names):
            raise ValueError(
                f"labels {value!r} names a class twice; write the names of the classes that apply, not 0 or 1 for "
                "every class"
            )
        return names
    cell = value.strip()
    if cell == NONE_OF_THE_LABELS:
        return ()
    if _is_bracketed(cell):
        raise ValueError(
            f"labels {cell!r} is a list written as text; write a|b for several labels and {NONE_OF_THE_LABELS} for "
            "none of them, or use JSON lines"
        )
    for separator in (",", ";", "\n", "\t"):
        if separator in cell:
            raise ValueError(
                f"labels {cell!r} has {separator!r} in it; write {'|'.join(map(str.strip, cell.split(separator)))} for "
                f"several labels. For a name with {separator!r} in it, use JSON lines, where labels is a list"
            )
    return tuple(_parse_name(name) for name in cell.split("|"))


def _parse_probabilities(value: dict[str, str | int | float] | str | int | float) -> dict[str, float]:
    """Returns {class: probability}. Raises ValueError unless these are probabilities whose sum is 1."""
    if not isinstance(value, dict):
        raise ValueError(
            f"probabilities {value!r} is not a finite number for each class; write an object in JSON lines, or a "
            f"column {_PROBABILITY_PREFIX}NAME for each class in CSV"
        )
    names = [_parse_name(name) for name in value]
    tables.check_unique(names, "probabilities")
    try:
        probabilities = dict(zip(names, map(parse_finite, value.values()), strict=True))
    except ValueError:
        raise ValueError(f"probabilities {value!r} is not a finite number for each class") from None
    lowest, total = min(probabilities.values(), default=0), sum(probabilities.values())
    if lowest < 0 or abs(total - 1) > 1e-3:
        problem = f"one is {lowest:g}" if lowest < 0 else f"their sum is {total:g}"
        raise ValueError(f"the probabilities must each be at least 0 and their sum 1, but {problem}")
    return probabilities


def _parse_name(value: str | int | float | bool) -> str:
    """Returns the name of a class. Raises ValueError if there is none."""
    name = label_names.normalize_label(value)
    if name is None:
        raise ValueError(f"a label is {value!r}, which means that there is none; leave it out, or rename it")
    return name


def _is_bracketed(cell: str) -> bool:
    """Returns whether a text begins with an opening bracket and ends with the closing one."""
    return cell[:1] + cell[-1:] in _LIST_BRACKETS


def _check_minus_one(records: Sequence[CustomRecord]) -> None:
    """Raises ValueError if −1 is the only negative label or score of a file. It usually means that there is none."""
    first: dict[float, str] = {}
    for record in records:
        names = [str(record.value)] if record.column == "score" else record.class_names
        for number in map(label_names.parse_number, names):
            if number is not None and number < 0 and record.column != "probabilities":
                first.setdefault(number, record.location)
    if first.keys() == {-1.0}:
        raise ValueError(
            f"{first[-1.0]}: the label is -1, which usually means that there is none. Add --unlabelled -1 if it does; "
            "if -1 is a label like the others, add --unlabelled '', and only empty ones are none"
        )


def _encode_label(
    record: CustomRecord, indices: Mapping[str, int | None], labels: Sequence[str]
) -> int | float | tuple[float, ...] | None:
    """Returns the label as `Example.label`.

    Args:
        record: the record.
        indices: {name: its index in `labels`, or None if it is not one of them}.
        labels: the classes of the task.

    Raises:
        ValueError: a class is not one of `labels`, or has two probabilities.
    """
    if record.column in (None, "score"):
        return record.value
    values = dict.fromkeys(record.class_names, 1.0) if record.column != "probabilities" else record.value
    vector = [0.0] * len(labels)
    for name, value in values.items():
        index = indices[name]
        if index is None:
            raise ValueError(f"{record.location}: the label {name!r} is not one of {', '.join(labels)}")
        if vector[index] and record.column == "probabilities":
            raise ValueError(f"{record.location}: the class {labels[index]!r} has two probabilities; keep one of them")
        vector[index] = value
    return vector.index(1.0) if record.column == "label" else tuple(vector)
