"""What a task of texts and labels hands on."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """One text or a pair, and its label: a class by number, a number, a number for each class (1 where it holds, or its
    probability), or None where it is not known.
    """

    id: str
    texts: tuple[str, ...]
    label: int | float | tuple[float, ...] | None
