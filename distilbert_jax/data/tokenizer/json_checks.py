"""Checks a tokenizer.json from an untrusted source. It is a small program: it can carry regular expressions that take
exponential time, replacements that double a text sixty times, and tables that the `tokenizers` library does not check.

Measured with tokenizers 0.22: `(a+)+$` fails with a panic after 0.1 s at each position of a text, so that a page could
take hours; a word of 40,000 letters under a WordPiece model without a limit takes more than half a minute; twenty
doublings of ten letters take 3 s; a character map whose first number is too large ends the process.
"""

import base64
import struct
from collections.abc import Iterator
from typing import Any

from distilbert_jax.io import untrusted
from distilbert_jax.messages import format_value

ALLOWED_PATTERNS = (" {2,}", r"\s+")
"""The regular expressions in the tokenizers of published encoders: those of XLM-R and ALBERT. BERT's have none."""

MAX_WORD_CHARACTERS = 1_000
"""Largest allowed limit on the length of a word. WordPiece takes time in its square; published encoders have 100."""

MAX_GROWTH_FACTOR = 1_000
"""How many times longer all replacements together may make a text. Those of published encoders keep its length."""


def check_tokenizer_json(text: str, *, where: str) -> None:
    """Checks that a tokenizer can read any text in a short time.

    Args:
        text: the content of a tokenizer.json.
        where: its path, for error messages.

    Raises:
        ValueError: If it is not JSON, or has a part that could take very long or end the process.
    """
    content = untrusted.parse_json(text, dict[str, Any], where=where, what="a tokenizer that can be read")
    growth = 1
    for part in _json_objects(content):
        pattern = part.get("Regex")
        if isinstance(pattern, str) and pattern not in ALLOWED_PATTERNS:
            raise ValueError(
                f"{where}: the regular expression {format_value(pattern)} is not one of those in published encoders "
                f"({', '.join(map(repr, ALLOWED_PATTERNS))}). Others can take exponential time: remove it"
            )
        max_characters = part.get("max_input_chars_per_word", 100)
        if not isinstance(max_characters, int) or max_characters > MAX_WORD_CHARACTERS:
            raise ValueError(
                f"{where}: max_input_chars_per_word is {max_characters}, and at most {MAX_WORD_CHARACTERS:,} is "
                "allowed; published encoders have 100"
            )
        if part.get("type") == "Replace" and isinstance(part.get("content"), str):
            growth *= max(1, len(part["content"]))
        if part.get("type") == "Precompiled":
            _check_charsmap(part.get("precompiled_charsmap"), where)
    if growth > MAX_GROWTH_FACTOR:
        raise ValueError(
            f"{where}: its replacements can make a text {growth:,} times as long, and at most {MAX_GROWTH_FACTOR:,} "
            "times is allowed: remove some of them"
        )


def _json_objects(node: Any) -> Iterator[dict[str, Any]]:
    """Yields every JSON object inside `node`. A stack replaces recursion, which deep nesting would exhaust."""
    stack = [node]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            yield node
        if isinstance(node, dict | list):
            children = node.values() if isinstance(node, dict) else node
            stack += [child for child in children if isinstance(child, dict | list)]


def _check_charsmap(charsmap: Any, where: str) -> None:
    """Raises ValueError if the first table of a character map is larger than the map. Its size precedes it."""
    try:
        content = base64.b64decode(charsmap, validate=True)
        (size,) = struct.unpack_from("<I", content)
    except (ValueError, TypeError, struct.error) as error:
        raise ValueError(
            f"{where}: precompiled_charsmap is not a character map: {error}; download tokenizer.json again"
        ) from None
    if size % 4 or size > len(content) - 4:
        raise ValueError(
            f"{where}: precompiled_charsmap is cut off: it states a table of {size:,} bytes, but {len(content) - 4:,} "
            "bytes follow; download tokenizer.json again"
        )
