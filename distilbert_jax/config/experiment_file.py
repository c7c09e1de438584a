"""Experiment files: load one, change it from the command line, and write it down as text."""

import ast
import dataclasses
import importlib.util
import pathlib
import sys
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

from distilbert_jax.config.experiment import Experiment, Pretrained
from distilbert_jax.data.sources.base import Source
from distilbert_jax.data.sources.files import Files

T = TypeVar("T")

FROM_TEXT = {Pretrained: Pretrained, Source: Files}
"""What a bare word on the command line becomes where one of these is wanted: `teacher=FOLDER`,
`corpus.sources.text=FILES`.
"""

NOT_SET = "not set"
"""The value at a field path that a config does not have, where it is compared with one that has it."""


def load(path: str | pathlib.Path) -> Experiment:
    """Runs `experiment()` of a file, which may import the files beside it.

    An experiment file is code: run only those you trust. Raises ValueError for a file without `experiment()`.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"no such experiment file: {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    if not hasattr(module, "experiment"):
        raise ValueError(f"{path} has no function `experiment`")
    return module.experiment()


def override(experiment: T, changes: Sequence[str]) -> T:
    """The experiment, or another dataclass that says what a run is, with changes such as
    `losses.soft.temperature=4`. ValueError, with the choices, for an unknown name or a wrong type.
    """
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals:
            raise ValueError(f"{change!r} changes nothing: write NAME=VALUE, such as steps=1000")
        experiment = _replaced(experiment, type(experiment), name.split("."), value, name)
    return experiment


def describe(node: Any) -> str:
    """One `path: value` line per leaf: what a run logs, what its folder keeps, and what tests/golden/ holds."""
    return "".join(f"{path}: {value}\n" for path, value in _leaves(node))


def flatten(node: Any) -> dict[str, Any]:
    """Returns the value of every leaf of a config by its field path, such as "optimizer.b2", as JSON can hold it.

    A value that JSON has no kind for becomes text, and a tuple a list. Every dataclass has a field "class", its name.
    """
    plain = lambda value: value if isinstance(value, str | int | float | None) else str(value)
    return {
        path: [plain(part) for part in value] if isinstance(value, list | tuple) else plain(value)
        for path, value in _leaves(node)
    }


def differences(
    one: Mapping[str, Any], other: Mapping[str, Any], *, except_in: Sequence[str] = ()
) -> dict[str, tuple[Any, Any]]:
    """Returns both values of every field path at which two flattened configs differ.

    Args:
        one: a config, as `flatten` returns it.
        other: another one.
        except_in: field paths that may differ, with everything below them.

    Returns:
        By field path, (value in `one`, value in `other`); a config that does not have the field has `NOT_SET` there.
    """
    found = {path: (one.get(path, NOT_SET), other.get(path, NOT_SET)) for path in sorted({*one, *other})}
    return {path: pair for path, pair in found.items() if pair[0] != pair[1] and not is_within(path, except_in)}


def is_within(path: str, fields: Sequence[str]) -> bool:
    """Whether a field path is one of `fields` or below one of them."""
    return any(path == field or path.startswith(f"{field}.") for field in fields)


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (field path, value) of every leaf, in the order of the fields."""
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        named = [("class", type(node).__name__), *((f.name, getattr(node, f.name)) for f in dataclasses.fields(node))]
    elif isinstance(node, Mapping):
        named = list(node.items())
    else:
        yield prefix, node
        return
    for name, value in named:
        yield from _leaves(value, f"{prefix}.{name}" if prefix else name)


def _replaced(node: Any, kind: Any, keys: list[str], text: str, name: str) -> Any:
    """`node`, declared as a `kind`, with what `keys` lead to set to `text`."""
    if not keys:
        return _parsed(text, kind, name)
    if isinstance(node, Mapping):
        choices, of_child = dict(node), dict.fromkeys(node, typing.get_args(kind)[1])
    elif dataclasses.is_dataclass(node) and not isinstance(node, type):
        of_child = {f: hint for f, hint in typing.get_type_hints(type(node)).items() if f != "_"}
        choices = {f: getattr(node, f) for f in of_child}
    else:
        raise ValueError(f"{name}: {node!r} has no parts to set")
    key, *rest = keys
    if key not in choices:
        raise ValueError(f"{name}: there is no {key!r}; choose one of {', '.join(choices)}")
    child = _replaced(choices[key], of_child[key], rest, text, name)
    return {**node, key: child} if isinstance(node, Mapping) else dataclasses.replace(node, **{key: child})


def _parsed(text: str, kind: Any, name: str) -> Any:
    """`text` as a value of the declared type; ValueError says what would be one."""
    options = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    value = _literal(text)
    if value is None and types.NoneType in options:
        return None
    for option in options:
        if typing.get_origin(option) is Literal and value in typing.get_args(option):
            return value
        if (
            typing.get_origin(option) is tuple
            and isinstance(value, tuple)
            and all(isinstance(x, typing.get_args(option)[0]) for x in value)
        ):
            return value
        if option is float and type(value) in (int, float):
            return float(value)
        if option in (int, bool) and type(value) is option:
            return value
        if option is str:
            return text
        if option in FROM_TEXT:
            return FROM_TEXT[option](text)
    raise ValueError(f"{name}: {text!r} is not {' or '.join(map(_said, options))}")


def _literal(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _said(kind: Any) -> str:
    """A type in words."""
    if typing.get_origin(kind) is Literal:
        return " or ".join(map(repr, typing.get_args(kind)))
    if typing.get_origin(kind) is tuple:
        return f"a tuple of {typing.get_args(kind)[0].__name__}, such as (0, 2)"
    return "None" if kind is types.NoneType else f"of type {getattr(kind, '__name__', kind)}"
