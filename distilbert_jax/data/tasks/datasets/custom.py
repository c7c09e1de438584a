"""A task of one's own, without code: train.csv and dev.csv, or .jsonl, with a column `text`, perhaps a second text
`text_pair`, and the answer. How its column is named says what it is:

    label           one class, by name
    score           a number
    labels          several classes at once: a list in JSONL, a|b in CSV
    probabilities   soft labels made elsewhere: {"name": p, …} in JSONL; a column `probability:NAME` a class in CSV

Where there is none, or it is empty, the text has no label: only a teacher can say something of it.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict

from distilbert_jax.data.tasks import metrics
from distilbert_jax.data.tasks.examples import Example, parse_finite
from distilbert_jax.data.tasks.task_types.classification import Classification
from distilbert_jax.io import untrusted

_ANSWERS = ("label", "score", "labels", "probabilities")
_PROBABILITY = "probability:"


class Line(TypedDict, total=False):
    """A line of JSONL."""

    text: str
    text_pair: str | None
    label: str | int | float | bool | None
    score: str | float | None
    labels: str | list[str | int | float | bool] | None
    probabilities: dict[str, str | float] | str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """A line of a file: where it stands, its texts, and its answer as it is written."""

    where: str
    texts: tuple[str, ...]
    kind: str | None  # one of the four columns; None where none is filled in
    answer: Any


def infer_task_type(folder: pathlib.Path) -> Classification:
    """What the training file asks for: every class in it, in alphabetical order; the dev file, where the training file
    has no answers at all.
    """
    found = records(folder, "train")
    if not any(record.kind for record in found):
        found = records(folder, "dev")
    kinds = {record.kind for record in found if record.kind}
    if not kinds:
        raise ValueError(f"{folder}: neither train nor dev has answers: no column {', '.join(_ANSWERS)} is filled in")
    if len(kinds) > 1 and kinds != {"label", "probabilities"}:
        raise ValueError(f"{folder}: the answers stand in more than one column: {', '.join(sorted(kinds))}")
    if kinds == {"score"}:
        return Classification(labels=(), metrics=(metrics.pearson_correlation, metrics.spearman_correlation))
    names = {
        name
        for record in found
        if record.kind
        for name in ([record.answer] if record.kind == "label" else record.answer)
    }
    if not names:
        raise ValueError(f"{folder}: the training file names no class in its column labels")
    if len(names) < 2 and kinds != {"labels"}:
        raise ValueError(f"{folder}: the training file has a single class, {names.pop()!r}: there is nothing to learn")
    several = kinds == {"labels"}
    return Classification(
        labels=tuple(sorted(names)),
        metrics=(metrics.micro_f1, metrics.macro_f1) if several else (metrics.accuracy, metrics.macro_f1),
        multi_label=several,
    )


def read(folder: pathlib.Path, split: str, *, labels: Sequence[str]) -> list[Example]:
    """The examples of a split. ValueError, naming the line, for an answer that is none of `labels`."""
    return [
        Example(id=str(number), texts=record.texts, label=_label(record, labels))
        for number, record in enumerate(records(folder, split))
    ]


def records(folder: pathlib.Path, split: str) -> list[Record]:
    """The lines of SPLIT.csv or SPLIT.jsonl. ValueError, naming file and line, where one is not as it should be."""
    paths = [folder / f"{split}{suffix}" for suffix in (".csv", ".jsonl") if (folder / f"{split}{suffix}").is_file()]
    if len(paths) != 1:
        raise ValueError(
            f"{folder}: {'both' if paths else 'neither'} {split}.csv {'and' if paths else 'nor'} {split}.jsonl"
        )
    found = [_record(f"{paths[0]}, line {line}", row) for line, row in _lines(paths[0])]
    if not found:
        raise ValueError(f"{paths[0]}: no examples")
    if len({len(record.texts) for record in found}) > 1:
        raise ValueError(f"{paths[0]}: some lines have a text_pair, others none")
    return found


def _lines(path: pathlib.Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if path.suffix == ".csv":
        for line, row in untrusted.read_table(path):
            names = [name for name in row if name.startswith(_PROBABILITY) and row[name] != ""]
            soft = {name.removeprefix(_PROBABILITY): row.pop(name) for name in names}
            yield line, row | ({"probabilities": soft} if soft else {})
        return
    for number, text in enumerate(untrusted.read_text(path).split("\n"), 1):
        if text.strip():
            yield number, untrusted.parse_json(text, Line, where=f"{path}, line {number}")


def _record(where: str, row: Mapping[str, Any]) -> Record:
    if not isinstance(row.get("text"), str):
        raise ValueError(f"{where}: no column `text`, only {', '.join(row)}")
    texts = (row["text"],) if row.get("text_pair") is None else (row["text"], row["text_pair"])
    filled = [kind for kind in _ANSWERS if row.get(kind) not in (None, "")]
    if len(filled) > 1:
        raise ValueError(f"{where}: {' and '.join(filled)} are both filled in")
    kind = filled[0] if filled else None
    answer: Any = row[kind] if kind else None
    if kind == "label":
        answer = str(answer)
    if kind == "labels":
        answer = tuple(answer.split("|") if isinstance(answer, str) else map(str, answer))
    if kind in ("score", "probabilities"):
        try:
            answer = parse_finite(answer) if kind == "score" else {name: parse_finite(p) for name, p in answer.items()}
        except (ValueError, AttributeError):
            wanted = "a number" if kind == "score" else "a number for each class"
            raise ValueError(f"{where}: {kind} {answer!r} is not {wanted}") from None
    if kind == "probabilities" and (not answer or min(answer.values()) < 0 or abs(sum(answer.values()) - 1) > 1e-3):
        raise ValueError(f"{where}: the probabilities add up to {sum(answer.values()):g}, or one is below 0")
    return Record(where=where, texts=texts, kind=kind, answer=answer)


def _label(record: Record, labels: Sequence[str]) -> int | float | tuple[float, ...] | None:
    if record.kind in (None, "score"):
        return record.answer
    named = [record.answer] if record.kind == "label" else list(record.answer)
    unknown = [name for name in named if name not in labels]
    if unknown:
        raise ValueError(f"{record.where}: the label {unknown[0]!r} is none of {', '.join(labels)}")
    if record.kind == "label":
        return list(labels).index(record.answer)
    if record.kind == "labels":
        return tuple(float(name in record.answer) for name in labels)
    return tuple(record.answer.get(name, 0.0) for name in labels)
