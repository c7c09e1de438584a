"""The examples of each kind of task, as the datasets provide them and the task types encode them.

The `location` of an example is its file and line for error messages; "" if there is no file.
"""

import dataclasses
import math
import re
from typing import Any

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """A text or a pair of texts with its label.

    Attributes:
        id: the id in a file of predictions.
        texts: one or two texts.
        label: the number of a class; a number (regression); for each class its probability, or 1 if it applies and 0
            if not (multi-label); None if the label is not known.
    """

    id: str
    texts: tuple[str, ...]
    label: int | float | tuple[float, ...] | None
    location: str = dataclasses.field(default="", repr=False, compare=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpanQuestion:
    """A question about a paragraph.

    Attributes:
        id: the id in a file of predictions.
        question: the text of the question.
        context: the paragraph.
        answers: the annotated answers; empty if the paragraph has no answer (v2.0) or nobody annotated the question.
        answer_starts: the first character of each answer in the paragraph.
        has_label: False if nobody annotated the question.
    """

    id: str
    question: str
    context: str
    answers: tuple[str, ...] = ()
    answer_starts: tuple[int, ...] = ()
    has_label: bool = True
    location: str = dataclasses.field(default="", repr=False, compare=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaggedSentence:
    """The words of a sentence and their tags: O, B-TYPE or I-TYPE. There are no tags if they are not known."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    location: str = dataclasses.field(default="", repr=False, compare=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChoiceQuestion:
    """The beginning of a text, its possible endings, and the number of the right one; None if it is not known."""

    first: str
    choices: tuple[str, ...]
    label: int | None
    location: str = dataclasses.field(default="", repr=False, compare=False)


def parse_finite(x: Any) -> float:
    """Returns a label as a number.

    Raises:
        ValueError: it is not a number, or it is NaN or infinite, so that no loss can use it.
    """
    # float() would also read 1_0 as 10.
    is_number = isinstance(x, str | int | float) and _NUMBER.fullmatch(str(x).strip())
    if not is_number or not math.isfinite(number := float(str(x))):
        raise ValueError(f"{x!r} is not a finite number")
    return number
