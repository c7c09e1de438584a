"""Compares tokenizers by what they do to text, and not by the files that they are in."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers

PROBE_TEXTS = (
    "A cat, naïve; 東京 12\tﬁ",
    "The Old DOG was in the tree.",
    "word " + "a" * 99 + " " + "b" * 100 + " " + "c" * 101 + " " + "d" * 250,
    "É é É ñ Å ü ß ẞ İ ı Σ ς ø",
    "control \x00 \x01 \x1f \x7f \x85 \u200b \u200d \ufeff \ufffd end",
    "東京は日本の首都です。 한국어 ไทย हिन्दी العربية עברית",
    "🙂 👩‍👩‍👧 🇩🇪 ☎️ 𝔘𝔫𝔦 𠮷",
    "line\nbreak\r\nand\ttab\u2028end\u00a0of\u3000text",
    "a.b,c!d?e'f\"g(h)i[j]k{l}m<n>o/p\\q_r-s–t—u…v$w€x%y",
    "  leading and trailing  ",
    "",
)
"""Texts on which tokenizers that should be the same are compared."""


def describe(backend: tokenizers.Tokenizer, special_ids: Mapping[str, int]) -> dict[str, Any]:
    """Returns everything that decides the ids of a tokenizer, in one form for equal tokenizers.

    Decoder, padding and truncation are left out, and what adds [CLS] and [SEP]: that is the same for all.

    Args:
        backend: the tokenizer.
        special_ids: the ids of the special tokens by role.
    """
    content = json.loads(backend.to_str())
    return {
        "special tokens": dict(special_ids),
        "added tokens": {
            token["content"]: {name: value for name, value in token.items() if name not in ("content", "special")}
            for token in content["added_tokens"]
        },
        "normalizer": _flatten(content["normalizer"], "normalizers"),
        "pre_tokenizer": _flatten(content["pre_tokenizer"], "pretokenizers"),
        "model": {name: value for name, value in content["model"].items() if name != "vocab"},
        "vocabulary": content["model"].get("vocab"),
    }


def hash_description(description: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of what `describe` returns."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def find_difference(one: Any, other: Any, path: Sequence[str] = ()) -> str | None:
    """Returns a text that names the first difference between two descriptions, or None if they are equal.

    Args:
        one: what `describe` returns, or a part of it.
        other: the same of another tokenizer.
        path: the names that lead to the part.
    """
    if one == other:
        return None
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        one, other = ({str(i): step for i, step in enumerate(steps, 1)} for steps in (one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        names = sorted(one.keys() | other.keys())
        differences = (find_difference(one.get(name), other.get(name), (*path, name)) for name in names)
        return next(difference for difference in differences if difference)
    values = [json.dumps(value, ensure_ascii=False)[:80] for value in (one, other)]
    return f"{' → '.join(path)} is {values[0]} in one of them and {values[1]} in the other"


def _flatten(part: dict[str, Any] | None, list_name: str) -> list[dict[str, Any]]:
    """Returns a normalizer or pre-tokenizer as a list of its steps, so that a sequence of one equals its only step."""
    if part is None:
        return []
    if part["type"] == "Sequence":
        return [step for child in part[list_name] for step in _flatten(child, list_name)]
    if part["type"] == "BertNormalizer" and part["strip_accents"] is None:
        part = {**part, "strip_accents": part["lowercase"]}
    return [part]
