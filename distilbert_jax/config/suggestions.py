"""Finds what a misspelled command, flag or field was meant to be."""

import difflib
from collections.abc import Collection

MIN_SIMILARITY = 0.6
"""How similar two names have to be, from 0 to 1, for one to be suggested in place of the other."""


def find_similar(word: str, choices: Collection[str]) -> str | None:
    """Returns the one of `choices` that is most similar to a word, or None if no one is."""
    by_lower = {choice.lower(): choice for choice in choices}
    similar = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=MIN_SIMILARITY)
    return by_lower[similar[0]] if similar else None


def format_suggestion(word: str, choices: Collection[str]) -> str:
    """Returns " (did you mean …?)" for a word that is similar to one of `choices`, or else an empty text."""
    similar = find_similar(word, choices)
    return f" (did you mean {similar}?)" if similar else ""
