"""The examples of every kind of task, as data sets give them and task types read them."""

import dataclasses
import math
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """One text or a pair, and its label: a class by number, a number, a number for each class (1 where it holds, or its
    probability), or None where it is not known.
    """

    id: str
    texts: tuple[str, ...]
    label: int | float | tuple[float, ...] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpanQuestion:
    """A question, the paragraph that answers it, and the answers people gave: text and first character. None where the
    paragraph does not answer it (v2.0). `known` is whether anybody was asked: in a file, whether there are `answers`.
    """

    id: str
    question: str
    context: str
    answers: tuple[str, ...] = ()
    answer_starts: tuple[int, ...] = ()
    has_label: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaggedSentence:
    """Its words, and a tag for each: O, B-TYPE, I-TYPE; no tags where they are not known."""

    words: tuple[str, ...]
    tags: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChoiceQuestion:
    """What comes first, how each choice goes on, and the number of the right one; None where it is not known."""

    first: str
    choices: tuple[str, ...]
    label: int | None


def parse_finite(x: Any) -> float:
    """A label that is a number. ValueError for text that is none, and for what no loss can be of: NaN, infinity."""
    if not isinstance(x, str | int | float) or not math.isfinite(number := float(str(x))):
        raise ValueError(f"{x!r} is not a number")
    return number
