"""What a tokenizer.json of others may ask for. It is a small program: it can carry regular expressions that take for
ever, replacements that double a text sixty times, and tables that the library trusts blindly.

Measured with tokenizers 0.22: `(a+)+$` gives up with a panic after 0.1 s at each place of a text, so that a page
could take hours; a word of 40,000 letters under a WordPiece without a limit more than half a minute; twenty doublings
of ten letters take 3 s; a character map whose first number is too large ends the process.
"""

import base64
import struct
from collections.abc import Iterator
from typing import Any

from distilbert_jax.io import untrusted

PATTERNS = (" {2,}", r"\s+")
"""The regular expressions that tokenizers of published encoders carry: XLM-R's, ALBERT's. BERT's own have none."""

LONGEST_WORD = 1_000  # characters; published: 100. A WordPiece takes their square
MOST_GROWTH = 1_000  # times, by all replacements together; published: 1


def check_tokenizer_json(text: str, *, where: str) -> None:
    """ValueError unless reading any text with this tokenizer ends soon."""
    parsed = untrusted.parse_json(text, dict[str, Any], where=where, what="a tokenizer that can be read")
    growth = 1
    for part in _objects(parsed):
        pattern = part.get("Regex")
        if isinstance(pattern, str) and pattern not in PATTERNS:
            raise ValueError(
                f"{where}: the regular expression {pattern[:60]!r} is not one of published encoders "
                f"({', '.join(map(repr, PATTERNS))}), and others can take for ever: leave it out"
            )
        longest = part.get("max_input_chars_per_word", 100)
        if not isinstance(longest, int) or longest > LONGEST_WORD:
            raise ValueError(f"{where}: max_input_chars_per_word is {longest}, and at most {LONGEST_WORD:,} are taken")
        if part.get("type") == "Replace" and isinstance(part.get("content"), str):
            growth *= max(1, len(part["content"]))
        if part.get("type") == "Precompiled":
            _demand_whole(part.get("precompiled_charsmap"), where)
    if growth > MOST_GROWTH:
        raise ValueError(f"{where}: its replacements can make a text {growth:,} times as long")


def _objects(node: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object in it."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
        if isinstance(node, dict | list):
            parts = node.values() if isinstance(node, dict) else node
            waiting += [part for part in parts if isinstance(part, dict | list)]


def _demand_whole(charsmap: Any, where: str) -> None:
    """ValueError unless the map's first table, whose size stands before it, lies inside the map."""
    try:
        content = base64.b64decode(charsmap, validate=True)
        (size,) = struct.unpack_from("<I", content)
    except (ValueError, TypeError, struct.error) as error:
        raise ValueError(f"{where}: precompiled_charsmap is no character map: {error}") from None
    if size % 4 or size > len(content) - 4:
        raise ValueError(f"{where}: precompiled_charsmap is cut: {size:,} bytes of {len(content) - 4:,} that follow")
