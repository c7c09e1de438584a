"""Loads experiment files, changes their fields from the command line and formats them as text."""

import ast
import dataclasses
import importlib.util
import modulefinder
import pathlib
import re
import sys
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

from distilbert_jax.config import renamed
from distilbert_jax.config.experiment import Experiment, Pretrained
from distilbert_jax.data.sources.base import Source
from distilbert_jax.data.sources.files import TextFiles
from distilbert_jax.io.files import expand_path, sha256

T = TypeVar("T")

TYPES_FROM_TEXT = {Pretrained: Pretrained, Source: TextFiles}
"""Makes a config value from a plain word on the command line: `teacher=FOLDER`, `corpus.sources.text=FILES`."""

NOT_SET = "not set"
"""The value at a field path that a config does not have, where it is compared with one that has it."""


def load_experiment(path: str | pathlib.Path) -> Experiment:
    """Loads the experiment that a Python file defines.

    The file is executed, and it may import the files in its own folder; load only files that you trust.

    Args:
        path: a Python file with a function `experiment()` that returns an `Experiment`.

    Raises:
        ValueError: if there is no such file, the file has no function `experiment`, or it uses a field that was
            renamed.
    """
    path = expand_path(path)
    if not path.is_file():
        raise ValueError(f"no such experiment file: {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, "experiment"):
            raise ValueError(f"{path} has no function `experiment`: define one that returns an Experiment")
        return module.experiment()
    except TypeError as error:
        raise _explain_renamed_field(error, path) from error
    finally:
        sys.path.pop(0)


def hash_code(path: str | pathlib.Path) -> dict[str, str]:
    """Returns the SHA-256 of an experiment file and of the files in its folder that it imports, directly or not.

    Returns:
        The hashes by path, relative to the folder of the experiment file. Modules that are imported under a name that
        is made while the program runs are not found.
    """
    path = pathlib.Path(path).absolute()
    # Only the folder of the file is searched, so installed packages are not followed.
    finder = modulefinder.ModuleFinder(path=[str(path.parent)], excludes=[__name__.partition(".")[0]])
    finder.run_script(str(path))
    imported = (getattr(module, "__file__", None) for module in finder.modules.values())
    found = {path, *(pathlib.Path(file) for file in imported if file)}
    return {file.relative_to(path.parent).as_posix(): sha256(file) for file in sorted(found)}


def _explain_renamed_field(error: TypeError, path: pathlib.Path) -> Exception:
    """Returns a ValueError that gives the new name of a field that was renamed, or else the error itself."""
    match = re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    new_names = renamed.NEW_KEYS.get(match[2], ()) if match else ()
    if not match or not new_names:
        return error
    return ValueError(f"{path}: {match[1]} has no field {match[2]!r}; it was renamed to {' or '.join(new_names)}")


def apply_overrides(experiment: T, changes: Sequence[str]) -> T:
    """Returns a copy of an experiment, or of another config dataclass, with some fields changed.

    Args:
        experiment: the dataclass to start from.
        changes: texts such as `steps=1000` or `losses.soft.temperature=4`.

    Raises:
        ValueError: if there is no such field (the message lists the fields that exist) or the value has the wrong type.
    """
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals:
            raise ValueError(f"cannot read {change!r}: write NAME=VALUE, such as steps=1000")
        experiment = _replace_field(experiment, type(experiment), name.split("."), value, name)
    return experiment


def describe(node: Any) -> str:
    """Formats a config dataclass as text with one line `path: value` for each field, however deeply nested.

    The model card of a student contains this text.
    """
    return "".join(f"{path}: {value}\n" for path, value in _leaves(node))


def flatten(node: Any) -> dict[str, Any]:
    """Returns the value of every leaf of a config by its field path, such as "optimizer.b2", as JSON can hold it.

    A value that JSON has no kind for becomes text, and a tuple a list. Every dataclass has a field "class", its name.
    """

    def to_plain(value: Any) -> Any:
        return value if isinstance(value, str | int | float | None) else str(value)

    return {
        path: [to_plain(item) for item in value] if isinstance(value, list | tuple) else to_plain(value)
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
    pairs = {path: (one.get(path, NOT_SET), other.get(path, NOT_SET)) for path in sorted({*one, *other})}
    return {path: pair for path, pair in pairs.items() if pair[0] != pair[1] and not is_within(path, except_in)}


def is_within(path: str, fields: Sequence[str]) -> bool:
    """Returns whether a field path is one of `fields` or below one of them."""
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


def _replace_field(node: Any, declared_type: Any, keys: list[str], text: str, name: str) -> Any:
    """Returns a copy of `node` in which the field that `keys` lead to is set to the value that `text` denotes.

    Args:
        node: a config dataclass, a mapping or a value.
        declared_type: the type that the config declares for `node`.
        keys: the rest of the field path, below `node`.
        text: the value as it was typed.
        name: the complete field path, for error messages.
    """
    if not keys:
        return _parse_value(text, declared_type, name)
    if isinstance(node, Mapping):
        children, child_types = dict(node), dict.fromkeys(node, typing.get_args(declared_type)[1])
    elif dataclasses.is_dataclass(node) and not isinstance(node, type):
        child_types = {f: hint for f, hint in typing.get_type_hints(type(node)).items() if f != "_"}
        children = {f: getattr(node, f) for f in child_types}
    else:
        raise ValueError(f"{name}: {node!r} has no fields that could be set")
    key, *rest = keys
    if key not in children:
        if new_key := renamed.find_new_key(key, children):
            raise ValueError(f"{name}: {key!r} was renamed to {new_key!r}")
        raise ValueError(f"{name}: there is no {key!r}; choose one of {', '.join(children)}")
    child = _replace_field(children[key], child_types[key], rest, text, name)
    return {**node, key: child} if isinstance(node, Mapping) else dataclasses.replace(node, **{key: child})


def _parse_value(text: str, declared_type: Any, name: str) -> Any:
    """Parses `text` as a value of the declared type; the ValueError says which values are possible."""
    is_union = typing.get_origin(declared_type) in (typing.Union, types.UnionType)
    options = typing.get_args(declared_type) if is_union else (declared_type,)
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
        if option in TYPES_FROM_TEXT:
            return TYPES_FROM_TEXT[option](text)
    literals = [option for option in options if typing.get_origin(option) is Literal]
    allowed = [choice for literal in literals for choice in typing.get_args(literal)]
    if isinstance(value, str) and (new_value := renamed.find_new_key(value, allowed)):
        raise ValueError(f"{name}: {text!r} was renamed to {new_value!r}")
    raise ValueError(f"{name}: {text!r} is not {' or '.join(map(_format_type, options))}")


def _literal(text: str) -> Any:
    """Evaluates a Python literal, true or false; any other text is returned unchanged."""
    if text in ("true", "false"):
        return text == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _format_type(kind: Any) -> str:
    """Formats a type for an error message."""
    if typing.get_origin(kind) is Literal:
        return " or ".join(map(repr, typing.get_args(kind)))
    if typing.get_origin(kind) is tuple:
        return f"a tuple of {typing.get_args(kind)[0].__name__}, such as (0, 2)"
    return "None" if kind is types.NoneType else f"of type {getattr(kind, '__name__', kind)}"
