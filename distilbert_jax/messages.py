"""Formats values, lists, counts, differences and commands for messages to the user."""

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

MAX_VALUE_CHARACTERS = 80
"""How much of a value a message shows."""


def format_value(value: Any) -> str:
    """Returns a value as a message shows it: not longer than a line."""
    if isinstance(value, str):
        return repr(_shorten(value))
    try:
        return _shorten(repr(value))
    except ValueError:
        # Python refuses to print integers of thousands of digits.
        return f"an object of type {type(value).__name__} that is too long to show"


def _shorten(text: str) -> str:
    """Returns the beginning of a text, with … in place of the rest."""
    return text if len(text) <= MAX_VALUE_CHARACTERS else f"{text[:MAX_VALUE_CHARACTERS]}…"


def format_list(items: Iterable[object], *, max_items: int) -> str:
    """Returns the first items with commas between them, and how many follow: "a, b and 12 more"."""
    texts = list(map(str, items))
    more = f" and {len(texts) - max_items:,} more" if len(texts) > max_items else ""
    return ", ".join(texts[:max_items]) + more


def format_count(number: int, noun: str, plural: str | None = None) -> str:
    """Returns a number of things, such as "2 documents". The plural ends with s unless it is given."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def format_differences(different: Mapping[str, tuple[Any, Any]], *, one: str, other: str) -> str:
    """Returns one line for each name that has two values, such as "  steps: 4 before, 8 now".

    Args:
        different: both values, by name.
        one: where or when the first value is found.
        other: the same for the second value.
    """
    return "\n".join(f"  {name}: {first} {one}, {second} {other}" for name, (first, second) in different.items())


def format_command(*words: object) -> str:
    """Returns a command of this package that can be copied into a shell, with its words quoted where necessary."""
    return f"python -m distilbert_jax {shlex.join(map(str, words))}"
