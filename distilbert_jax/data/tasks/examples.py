"""What a task of texts and labels hands on."""

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


def finite(x: Any) -> float:
    """A label that is a number. ValueError for text that is none, and for what no loss can be of: NaN, infinity."""
    if not isinstance(x, str | int | float) or not math.isfinite(number := float(str(x))):
        raise ValueError(f"{x!r} is not a number")
    return number
