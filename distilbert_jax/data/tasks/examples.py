"""What a task of texts and labels hands on."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """One text or a pair, and its label: a class by number, a number, or None where it is not known."""

    id: str
    texts: tuple[str, ...]
    label: int | float | None
