"""Bad input by the thousand: what hypothesis does to a good file."""

import json
import math

from hypothesis import strategies as st

DEEP = "a place for ten thousand brackets"

ODD = st.sampled_from(
    [
        *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**12, 10**400, 0.5, -0.0, 1e308, math.nan, math.inf),
        *("", "x", "..", "../../x", "/etc/passwd", "a/b", "\0", "\ud800", "ﬁ" * 50, "9" * 5_000, DEEP),
        *([], {}, [[]], [None], {"": 0}, [DEEP]),
    ]
)
VALUES = ODD | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
PLACES = st.integers(0, 2**32)
BYTES = st.sampled_from(["flip", "cut", "insert", "repeat", "drop", "zeros", "ones", "digits"])

byte_edits = st.lists(st.tuples(BYTES, PLACES, PLACES), min_size=1, max_size=3)
json_edits = st.lists(
    st.tuples(st.sampled_from(["replace", "drop", "rename", "repeat"]), PLACES, VALUES), min_size=1, max_size=3
)


def edit_bytes(content: bytes, edits) -> bytes:
    for kind, place, size in edits:
        at = place % (len(content) + 1)
        length = 1 + size % 16
        before, after = content[:at], content[at:]
        match kind:
            case "flip":
                content = before + bytes(b ^ 1 << size % 8 for b in after[:1]) + after[1:]
            case "cut":
                content = before
            case "insert":
                content = before + size.to_bytes(5, "little") + after
            case "repeat":
                content = before + after[: 4 * length] * 2 + after[4 * length :]
            case "drop":
                content = before + after[4 * length :]
            case "zeros" | "ones":
                content = before + (b"\0" if kind == "zeros" else b"\xff") * length + after[length:]
            case "digits":
                content = before + b"9" * length + after[length:]
    return content


def edit_json(content: bytes, edits) -> bytes:
    parsed = json.loads(content)
    for kind, place, value in edits:
        parsed = _edited(parsed, kind, place, value)
    text = json.dumps(parsed).replace(json.dumps(DEEP), "[" * 10_000 + "]" * 10_000)
    return text.encode()


def edit_lines(content: bytes, edits) -> bytes:
    """Of a file with a JSON object a line."""
    lines = content.splitlines()
    at = edits[0][1] % len(lines)
    return b"\n".join([*lines[:at], edit_json(lines[at], edits), *lines[at + 1 :]])


def _edited(parsed, kind, place, value):
    """The place with this number of an object: of the document itself, if there is none inside."""
    places = list(_places(parsed))
    if not places:
        return value
    node, key = places[place % len(places)]
    if kind == "replace":
        node[key] = value
    elif kind == "drop":
        del node[key]
    elif isinstance(node, dict):
        node[key + "s" if kind == "rename" else str(value)[:20]] = node[key]
        if kind == "rename":
            del node[key]
    else:
        node.insert(0, node[key])
    return parsed


def _places(node):
    """(object or list, key or number) of all parts; long lists by their ends."""
    if isinstance(node, dict | list):
        keys = list(node if isinstance(node, dict) else range(len(node)))
        for key in keys if len(keys) < 40 else [*keys[:4], *keys[-4:]]:
            yield node, key
            yield from _places(node[key])
