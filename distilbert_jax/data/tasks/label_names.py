r"""The names of classes: how values in files become names, how names are ordered, and which names are the same.

| in a file                                 | name                                    |
|-------------------------------------------|-----------------------------------------|
| text                                      | the text without spaces around it       |
| 1 in JSON; 1, 1.0 or 1.00 in a text       | 1                                       |
| 1.0 in JSON                               | 1, because a column with gaps is floats |
| 0.5 in JSON                               | 0.5                                     |
| true and false in JSON                    | true and false                          |
| null and NaN in JSON                      | no label                                |
| a text: null, nan, NaN, \N or nothing     | no label                                |
"""

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from distilbert_jax.data.tasks.examples import parse_finite

_MISSING = ("", "null", "nan", "NaN", "\\N")
_WHOLE_NUMBER = re.compile(r"(-?\d+)(?:\.0*)?", re.ASCII)
_TRUTH_VALUES = ("true", "false")


def normalize_label(value: str | int | float | bool | None) -> str | None:
    """Returns the name of a class as the table above says; None if the value means that there is no label.

    Raises:
        ValueError: the value is infinite, or a text with a line break, a tab or another control character in it.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return _TRUTH_VALUES[not value]
    if isinstance(value, float) and math.isinf(value):
        raise ValueError(f"{value} is not the name of a class")
    text = (repr(int(value)) if isinstance(value, float) and value.is_integer() else str(value)).strip()
    if text in _MISSING:
        return None
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise ValueError(f"{text!r} has a line break, a tab or another control character in it; remove it")
    if match := _WHOLE_NUMBER.fullmatch(text):
        return "0" if match[1] == "-0" else match[1]
    return text


def is_missing(value: Any, unlabelled: str | None = None) -> bool:
    """Returns whether a value of a label column means that there is no label.

    Args:
        value: the value. A list or an object is a label, also if it is empty.
        unlabelled: a value that means the same, in addition to those in the table above.
    """
    if isinstance(value, list | dict):
        return False
    try:
        return normalize_label(value) in (None, normalize_label(unlabelled))
    except ValueError:
        return False


def parse_number(name: str) -> float | None:
    """Returns a name as a number, or None if it is not one."""
    try:
        return parse_finite(name)
    except ValueError:
        return None


def sort_labels(names: Iterable[str]) -> tuple[str, ...]:
    """Returns names of classes in order: first the numbers, by size, then all others in alphabetical order."""

    def key(name: str) -> tuple[bool, float, str]:
        number = parse_number(name)
        return number is None, number or 0.0, name

    return tuple(sorted(names, key=key))


def find_label(name: str, labels: Sequence[str]) -> int | None:
    """Returns the index of the label with this name, or None if there is none.

    If no label is equal to the name, the one that differs from it only in case is taken, unless there are several.
    """
    if name in labels:
        return labels.index(name)
    folded = name.casefold()
    indices = [index for index, label in enumerate(labels) if label.casefold() == folded]
    return indices[0] if len(indices) == 1 else None


def check_distinct(places: Mapping[str, str]) -> None:
    """Raises ValueError if two names look the same, are the same number, or are a number and true or false.

    Args:
        places: {name: the file and line where it is first used}.
    """
    numbers = {name: parse_number(name) for name in places}
    seen: dict[object, str] = {}
    for name, place in places.items():
        for key, reason in ((_normalize_appearance(name), "look the same"), (numbers[name], "are the same number")):
            other = name if key is None else seen.setdefault(key, name)
            if other != name:
                raise ValueError(
                    f"{place}: the labels {name!a} and {other!a} ({places[other]}) {reason}; write each "
                    "class in one way"
                )
    truth = next((name for name in places if name.casefold() in _TRUTH_VALUES), None)
    number = next((name for name in places if numbers[name] is not None), None)
    if truth is not None and number is not None:
        raise ValueError(
            f"{places[truth]}: the label is {truth}, and in {places[number]} it is the number {number}; write each "
            "class in one way"
        )


def _normalize_appearance(name: str) -> str:
    """Returns the same text for names that look the same, with composed accents, single spaces and no format signs."""
    composed = unicodedata.normalize("NFC", name)
    visible = "".join(character for character in composed if unicodedata.category(character) != "Cf")
    return " ".join(visible.split())
