"""Loads experiment files, changes their fields from the command line and formats them as text."""

import ast
import contextlib
import dataclasses
import importlib.util
import modulefinder
import pathlib
import re
import sys
import types
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

from distilbert_jax import fields
from distilbert_jax.config import renamed, suggestions
from distilbert_jax.config.experiment import Experiment, Masking, Pretrained, Student
from distilbert_jax.data.shards.prepare import Corpus
from distilbert_jax.data.sources.base import Source
from distilbert_jax.data.sources.files import TextFiles
from distilbert_jax.io import user_code
from distilbert_jax.io.files import expand_path, sha256
from distilbert_jax.losses.base import LogitLoss, Loss
from distilbert_jax.messages import format_value
from distilbert_jax.models.transformer import TransformerConfig
from distilbert_jax.optimizer import AdamW

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
        ValueError: there is no such file, or it does not define an experiment. The message names the line.
    """
    path = expand_path(path)
    if not path.is_file():
        raise ValueError(f"no such experiment file: {path}")
    if path.suffix != ".py":
        raise ValueError(
            f"{path} is not a Python file, NAME.py; name an experiment file, such as experiments/quickstart.py"
        )
    # A name of its own, so that a file random.py does not replace the module random.
    spec = importlib.util.spec_from_file_location(f"experiment_file_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    # Only while it runs: the dataclasses in it need this, but a worker process could not import the module by its name.
    sys.modules[spec.name] = module
    try:
        with user_code.locate_errors(path), _explain_unknown_field():
            spec.loader.exec_module(module)
            function = getattr(module, "experiment", None)
            if not isinstance(function, types.FunctionType):
                raise ValueError("there is no function `experiment`: define one that returns an Experiment")
            experiment = function()
    finally:
        sys.path.remove(str(path.parent))
        del sys.modules[spec.name]
    if not isinstance(experiment, Experiment):
        line = function.__code__.co_firstlineno
        returned = "nothing: add `return`" if experiment is None else format_value(experiment)
        raise ValueError(f"{path}, line {line}: experiment() must return an Experiment, but it returns {returned}")
    return experiment


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


@contextlib.contextmanager
def _explain_unknown_field() -> Iterator[None]:
    """Turns the TypeError of an unknown field in the block into a ValueError with the name that was meant."""
    try:
        yield
    except TypeError as error:
        match = re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
        if not match:
            raise
        names = [field.name for kind in _iter_config_classes() if kind.__name__ == match[1] for field in _fields(kind)]
        new_names = renamed.NEW_KEYS.get(match[2], ())
        hint = suggestions.format_suggestion(match[2], names)
        if new_names:
            hint = f"; it was renamed to {' or '.join(new_names)}"
        problem = ValueError(f"{match[1]} has no field {match[2]!r}{hint}")
        raise problem.with_traceback(error.__traceback__) from error


def _iter_config_classes() -> Iterator[type]:
    """Yields the dataclasses that an experiment can consist of, those of the file that is loaded as well."""
    waiting: list[type] = [Experiment, Student, Masking, Pretrained, TransformerConfig, Corpus, AdamW, Loss, Source]
    while waiting:
        kind = waiting.pop(0)
        yield kind
        waiting += kind.__subclasses__()


def _fields(kind: type) -> tuple["dataclasses.Field[Any]", ...]:
    """Returns the fields of a dataclass, and none for another class."""
    return dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()


def find_field_paths(name: str, config_class: type) -> list[str]:
    """Returns the paths of the fields of this name in a config dataclass and the dataclasses in it, shortest first.

    If there are none, it returns those of the field whose name is most similar.

    Args:
        name: the name of a field, such as "learning_rate".
        config_class: Experiment or FineTuneConfig. Losses have "NAME" in their path.
    """
    paths = sorted(dict.fromkeys(_iter_field_paths(config_class)), key=lambda path: path.count("."))
    last_names = {path: path.rpartition(".")[2] for path in paths}
    similar = name if name in last_names.values() else suggestions.find_similar(name, last_names.values())
    return [path for path, last_name in last_names.items() if last_name == similar]


def _iter_field_paths(kind: type, prefix: str = "") -> Iterator[str]:
    """Yields the path of every field of a dataclass and of the dataclasses in it."""
    for name, declared in fields.field_types(kind).items():
        yield f"{prefix}{name}"
        for option in map(fields.unwrap, fields.split_union(declared)):
            args = typing.get_args(option)
            if isinstance(option, type) and dataclasses.is_dataclass(option):
                yield from _iter_field_paths(option, f"{prefix}{name}.")
            elif args and args[-1] is Loss:
                losses: set[type] = {Loss, *Loss.__subclasses__(), *LogitLoss.__subclasses__()}
                for loss in losses:
                    yield from (f"{prefix}{name}.NAME.{field.name}" for field in _fields(loss))


def apply_overrides(experiment: T, changes: Sequence[str]) -> T:
    """Returns a copy of an experiment, or of another config dataclass, with some fields changed.

    Args:
        experiment: the dataclass to start from.
        changes: texts such as `steps=1000` or `losses.soft.temperature=4`.

    Raises:
        ValueError: there is no such field (the message lists the fields that exist), or it cannot have this value.
    """
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals:
            raise ValueError(f"cannot read {change!r}: write NAME=VALUE, such as steps=1000")
        experiment = _replace_field(experiment, type(experiment), name.split("."), value, name, experiment)
    return experiment


def describe(node: Any) -> str:
    """Formats a config dataclass as text with one line `path: value` for each field, however deeply nested."""
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


def _replace_field(node: Any, declared_type: Any, keys: list[str], text: str, name: str, root: Any) -> Any:
    """Returns a copy of `node` in which the field that `keys` lead to is set to the value that `text` denotes.

    Args:
        node: a config dataclass, a mapping or a value.
        declared_type: the type that the config declares for `node`.
        keys: the rest of the field path, below `node`.
        text: the value as it was typed.
        name: the complete field path, for error messages.
        root: the experiment or other config that `node` is a part of, for suggestions.
    """
    if not keys:
        return _parse_value(text, declared_type, name)
    if isinstance(node, Mapping):
        children, child_types = dict(node), dict.fromkeys(node, typing.get_args(declared_type)[1])
    elif dataclasses.is_dataclass(node) and not isinstance(node, type):
        child_types = fields.field_types(type(node))
        children = {f: getattr(node, f) for f in child_types}
    else:
        raise ValueError(f"{name}: {node!r} has no fields that could be set")
    key, *rest = keys
    if key not in children:
        if new_key := renamed.find_new_key(key, children):
            raise ValueError(f"{name}: {key!r} was renamed to {new_key!r}")
        hint = _format_field_suggestion(key, children, root)
        raise ValueError(f"{name}: there is no {key!r}{hint}; choose one of {', '.join(children)}")
    child = _replace_field(children[key], child_types[key], rest, text, name, root)
    if isinstance(node, Mapping):
        return {**node, key: child}
    try:
        return dataclasses.replace(node, **{key: child})
    except fields.FieldError as error:
        # The class does not know where in the experiment it is.
        raise error.move_to(name.removesuffix(".".join(keys)).removesuffix(".")) from None


def _format_field_suggestion(key: str, siblings: Collection[str], root: Any) -> str:
    """Returns which field was probably meant by one that does not exist, for a message, or an empty text.

    Args:
        key: the last name of the field path that was typed.
        siblings: the names that exist in its place.
        root: the experiment, in which the field may be in another place.
    """
    elsewhere = [path for path, _ in _leaves(root) if path.rpartition(".")[2] == key and key != "class"]
    if elsewhere:
        return f" (did you mean {' or '.join(elsewhere)}?)"
    return suggestions.format_suggestion(key, siblings)


def _parse_value(text: str, declared_type: Any, name: str) -> Any:
    """Parses `text` as a value of the declared type; the ValueError says which values are possible."""
    options = tuple(map(fields.unwrap, fields.split_union(declared_type)))
    value = _literal(text)
    if value is None and types.NoneType in options:
        return None
    for option in options:
        if typing.get_origin(option) is Literal and value in typing.get_args(option):
            return value
        if (
            typing.get_origin(option) is tuple
            and isinstance(value, tuple)
            and all(isinstance(x, fields.unwrap(typing.get_args(option)[0])) for x in value)
        ):
            return value
        if option is float and type(value) in (int, float):
            return float(value)
        if option in (int, bool) and type(value) is option:
            return value
        if option is str and value is not None:
            return text
        if option in TYPES_FROM_TEXT:
            return TYPES_FROM_TEXT[option](text)
    literals = [option for option in options if typing.get_origin(option) is Literal]
    allowed = [choice for literal in literals for choice in typing.get_args(literal)]
    if isinstance(value, str) and (new_value := renamed.find_new_key(value, allowed)):
        raise ValueError(f"{name}: {text!r} was renamed to {new_value!r}")
    raise fields.FieldError("", name, f"must be {fields.describe_type(declared_type)}, not {text!r}")


def _literal(text: str) -> Any:
    """Evaluates a Python literal, true or false; any other text is returned unchanged."""
    if text in ("true", "false"):
        return text == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
