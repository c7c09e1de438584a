"""Hashes of the examples of a split, which tell whether two results are about the same data."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

TEXT_FIELDS = ("texts", "question", "context", "words", "first", "choices")
"""The fields of all classes in `examples` that a model reads."""

LABEL_FIELDS = ("label", "tags", "answers", "answer_starts", "has_label")
"""The fields of all classes in `examples` that say what the right answer is."""


class SplitHashes(TypedDict):
    """The number of examples of a split, and the SHA-256 of their ids, texts and labels, in their order."""

    examples: int
    ids: str
    texts: str
    labels: str | None  # None if no example has a label


def hash_split(examples: Sequence[Any], label_names: Sequence[str]) -> SplitHashes:
    """Hashes the examples of a split.

    Args:
        examples: the examples, which have a class in `examples`.
        label_names: the names of the classes or tags of the task. They belong to the labels, which are numbers.
    """
    has_labels = any(_has_label(example) for example in examples)
    labels = (_read_fields(example, LABEL_FIELDS) for example in examples)
    return SplitHashes(
        examples=len(examples),
        ids=_hash_records(getattr(example, "id", "") for example in examples),
        texts=_hash_records(_read_fields(example, TEXT_FIELDS) for example in examples),
        labels=_hash_records([list(label_names), *labels]) if has_labels else None,
    )


def list_differences(
    one: Mapping[str, SplitHashes], other: Mapping[str, SplitHashes], *, unlabelled_train: bool = False
) -> list[str]:
    """Returns what differs between the examples of two results: one line of text for each split that differs.

    Args:
        one: {split: its hashes} of one result.
        other: the same of the other result.
        unlabelled_train: whether the examples of "train" may have labels in one result and none in the other.
    """
    lines = []
    for split in dict.fromkeys([*one, *other]):
        if split not in one or split not in other:
            lines.append(f"{split}: only one of them has this split")
            continue
        first, second = one[split], other[split]
        if first["examples"] != second["examples"]:
            lines.append(f"{split}: {first['examples']:,} examples and {second['examples']:,} examples")
            continue
        kinds = [kind for kind in ("ids", "texts", "labels") if first[kind] != second[kind]]
        if unlabelled_train and split == "train" and None in (first["labels"], second["labels"]):
            kinds = [kind for kind in kinds if kind != "labels"]
        if kinds:
            lines.append(f"{split}: other {' and '.join(kinds)}")
    return lines


def _has_label(example: Any) -> bool:
    """Returns whether the right answer of an example is known."""
    if hasattr(example, "has_label"):
        return bool(example.has_label)
    return bool(example.tags) if hasattr(example, "tags") else example.label is not None


def _read_fields(example: Any, names: Sequence[str]) -> list[Any]:
    """Returns the values of those fields that the example has."""
    return [getattr(example, name) for name in names if hasattr(example, name)]


def _hash_records(records: Iterable[Any]) -> str:
    """Returns the SHA-256 of values, each written as a line of JSON."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(json.dumps(record).encode() + b"\n")
    return digest.hexdigest()
