"""Declares which values the fields of a config accept, and checks them when the config is made.

A field states its type and, where a number has one, its range:

    learning_rate: Annotated[float, Range(above=0)] = 5e-4

`check_fields` reads these declarations. A config calls it in `__post_init__`, so that a value that is not allowed is
refused where it is written, before anything is read.
"""

import dataclasses
import functools
import inspect
import math
import re
import struct
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from distilbert_jax.messages import format_value

MAX_COUNT = 2**31 - 1
"""The largest number of steps, rows and the like. Counters on the devices have 32 bits."""

MAX_INT_BITS = 4_096
"""Integers with more bits cannot be a setting. Python would also refuse to print those with some thousand digits."""

MIN_FLOAT32, MAX_FLOAT32 = 2.0**-126, (2 - 2.0**-23) * 2.0**127
"""The smallest and the largest normal number of float32. Devices treat smaller numbers as 0."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Range:
    """The numbers that a field accepts. A bound that is None does not limit them.

    Attributes:
        at_least: the smallest number.
        above: a number that all others have to exceed.
        at_most: the largest number.
        below: a number that all others have to stay under.
    """

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    def __contains__(self, value: float) -> bool:
        """Returns whether a number is within all bounds."""
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        """Returns the bounds as text that follows "a number": "greater than 0 and at most 1", "from 1 to 20"."""
        if self.at_least is not None and self.at_most is not None:
            return f"from {_format_bound(self.at_least)} to {_format_bound(self.at_most)}"
        names = {"at_least": "of at least", "above": "greater than", "at_most": "at most", "below": "less than"}
        bounds = ((text, getattr(self, name)) for name, text in names.items())
        return " and ".join(f"{text} {_format_bound(bound)}" for text, bound in bounds if bound is not None)


def _format_bound(bound: float) -> str:
    """Returns a bound as text: 2,147,483,647 or 1e-06."""
    return f"{bound:,}" if isinstance(bound, int) else f"{bound:g}"


PositiveInt = Annotated[int, Range(at_least=1, at_most=MAX_COUNT)]
NonNegativeInt = Annotated[int, Range(at_least=0, at_most=MAX_COUNT)]
Rate = Annotated[float, Range(at_least=0, below=1)]


class FieldError(ValueError):
    """A field has a value that is not allowed.

    Args:
        owner: where the config is: its path in the experiment, such as "losses.soft", or else the name of its class.
        field: the path of the field from there, such as "temperature".
        problem: the rest of the sentence: which values are allowed, and which one it has.
    """

    def __init__(self, owner: str, field: str, problem: str):
        super().__init__(f"{f'{owner}.' if owner else ''}{field} {problem}")
        self.field = field
        self.problem = problem

    def move_to(self, owner: str) -> "FieldError":
        """Returns the same error for a config at another path."""
        return FieldError(owner, self.field, self.problem)


def check_fields(config: Any, *, path: str | None = None) -> None:
    """Raises an error unless every field of a dataclass has the type and the range that its annotation declares.

    The fields of dataclasses inside of it are checked, too.

    Args:
        config: the dataclass.
        path: its field path in an experiment, for the message; "" for the experiment itself. Without it, the message
            names the class.

    Raises:
        FieldError: a value is not allowed.
    """
    for mismatch in _iter_mismatches(config):
        raise mismatch.make_error(type(config).__name__ if path is None else path)


@functools.cache
def field_types(kind: Any) -> dict[str, Any]:
    """Returns the annotation of every field of a dataclass, by name.

    An annotation that cannot be evaluated, such as one that is imported for type checkers only, is replaced by that of
    the base class, or by Any.
    """
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except NameError:
        hints = dict.fromkeys(inspect.get_annotations(kind), Any)
        for base in reversed(kind.__bases__):
            hints |= field_types(base)
    if not dataclasses.is_dataclass(kind):
        return hints
    return {field.name: hints.get(field.name, Any) for field in dataclasses.fields(kind)}


def split_union(kind: Any) -> tuple[Any, ...]:
    """Returns the options of a union; any other type is the only option."""
    is_union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    return typing.get_args(kind) if is_union else (kind,)


def unwrap(kind: Any) -> Any:
    """Returns the type of an annotation, without its range."""
    return split_annotated(kind)[0]


def split_annotated(kind: Any) -> tuple[Any, Range | None]:
    """Returns the type of an annotation and its range, or None if it has no range."""
    if typing.get_origin(kind) is not Annotated:
        return kind, None
    inner, *metadata = typing.get_args(kind)
    return inner, next((item for item in metadata if isinstance(item, Range)), None)


def describe_type(kind: Any) -> str:
    """Returns the values that an annotation allows as text, such as "a number greater than 0 or None"."""
    options = split_union(kind)
    if len(options) > 1:
        return " or ".join(map(describe_type, options))
    kind, allowed = split_annotated(kind)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return " or ".join(map(repr, args))
    if origin is tuple:
        example = "('a', 'b')" if unwrap(args[0]) is str else "(1, 3)"
        items = re.sub("^a (.*?number)", r"\1s", describe_type(args[0]))
        return f"a tuple of {items}, such as {example}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"a dict of {describe_type(args[1])} by name"
    names = {int: "a whole number", float: "a number", bool: "True or False", str: "text", types.NoneType: "None"}
    if kind in names:
        return f"{names[kind]} {allowed}" if allowed else names[kind]
    return f"a {getattr(origin or kind, '__name__', kind)}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mismatch:
    """A value that the annotation of its field does not allow.

    Attributes:
        path: the path of the field, from the config that is checked.
        value: the value.
        kind: the annotation.
        reason: text after the value, if it does not say by itself why it is not allowed.
    """

    path: str
    value: Any
    kind: Any
    reason: str = ""

    def make_error(self, owner: str) -> FieldError:
        """Returns the error for a config at the path `owner`."""
        problem = f"must be {describe_type(self.kind)}, not {format_value(self.value)}{self.reason}"
        return FieldError(owner, self.path, problem)


def find_mismatch(value: Any, kind: Any, path: str = "") -> Mismatch | None:
    """Returns what is wrong with a value, or None if its annotation allows it.

    Args:
        value: the value.
        kind: the annotation.
        path: the field path of the value.
    """
    options = split_union(kind)
    if len(options) > 1:
        mismatches = [find_mismatch(value, option, path) for option in options]
        # The option that comes closest has its mismatch inside of the value, or a reason.
        closer = (mismatch for mismatch in mismatches if mismatch and (mismatch.path != path or mismatch.reason))
        if not all(mismatches):
            return None
        closest = next(closer, Mismatch(path=path, value=value, kind=kind))
        return dataclasses.replace(closest, kind=kind) if closest.path == path else closest
    inner, allowed = split_annotated(kind)
    reason: str | None = ""
    if inner in (int, float):
        reason = _find_number_problem(value, inner, allowed)
    elif inner is str:
        reason = _find_text_problem(value)
    elif typing.get_origin(inner) is Literal:
        reason = None if any(value == x and type(value) is type(x) for x in typing.get_args(inner)) else ""
    elif _is_instance(value, typing.get_origin(inner) or inner):
        return next(_iter_inner_mismatches(value, typing.get_args(inner), path), None)
    return None if reason is None else Mismatch(path=path, value=value, kind=kind, reason=reason)


def _find_number_problem(value: Any, kind: type, allowed: Range | None) -> str | None:
    """Returns None for a number that can be a setting, or else text that follows the value and says why it cannot.

    It has to be of the type and in the range. A float has to be so after it is rounded to float32, too, which the
    devices compute in: a learning rate of 1e-60 would be 0 there, and a decay rate of 0.99999999999 would be 1.
    """
    if isinstance(value, bool) or not isinstance(value, int if kind is int else int | float):
        return ""
    if isinstance(value, int) and value.bit_length() > MAX_INT_BITS:
        return ""
    if (isinstance(value, float) and not math.isfinite(value)) or (allowed is not None and value not in allowed):
        return ""
    if kind is int:
        return None
    if abs(value) > MAX_FLOAT32:
        return ", which is infinite in float32"
    if 0 < abs(value) < MIN_FLOAT32:
        return ", which is 0 in float32"
    (rounded,) = struct.unpack("f", struct.pack("f", value))
    return None if allowed is None or rounded in allowed else f", which is {rounded:g} in float32"


def _find_text_problem(value: Any) -> str | None:
    """Returns None for a text that can be a setting, or else text that follows the value and says why it cannot.

    An empty text would be read as a setting that was left out.
    """
    if not isinstance(value, str):
        return ""
    if "\0" in value:
        return ", which has a NUL character"
    return None if value else ", which is empty"


def _is_instance(value: Any, kind: Any) -> bool:
    """Returns whether a value is an instance of a class. A type that Python cannot check allows everything."""
    try:
        return kind is Any or isinstance(value, kind)
    except TypeError:
        return True


def _iter_mismatches(config: Any) -> Iterator[Mismatch]:
    """Yields the mismatches of all fields of a dataclass."""
    config_class: type = type(config)
    kinds = field_types(config_class)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        # `scale: float = None` is common, though the annotation does not say so.
        if value is not None or field.default is not None:
            mismatch = find_mismatch(value, kinds[field.name], field.name)
            if mismatch:
                yield mismatch


def _iter_inner_mismatches(value: Any, args: Sequence[Any], path: str) -> Iterator[Mismatch]:
    """Yields the mismatches inside of a dataclass, a mapping or a tuple.

    Args:
        value: an instance of the class that its annotation names.
        args: the type arguments of the annotation, such as (int, ...) for a tuple.
        path: the field path of the value.
    """
    if dataclasses.is_dataclass(value):
        for mismatch in _iter_mismatches(value):
            yield dataclasses.replace(mismatch, path=f"{path}.{mismatch.path}")
    elif isinstance(value, Mapping) and args:
        for name, item in value.items():
            found = find_mismatch(name, args[0], f"a name in {path}") or find_mismatch(item, args[1], f"{path}.{name}")
            if found:
                yield found
    elif isinstance(value, tuple) and args[1:] == (...,) and any(find_mismatch(item, args[0]) for item in value):
        yield Mismatch(path=path, value=value, kind=tuple[args[0], ...])  # type: ignore[valid-type]
