"""Tests that every field of every config accepts what its annotation declares and refuses everything else by name."""

import copy
import dataclasses
import functools
import math
import typing
from collections.abc import Mapping
from typing import Annotated, Literal

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from distilbert_jax import fields
from distilbert_jax.config.experiment import Experiment, Masking, Pretrained, Student
from distilbert_jax.config.finetune import FineTuneConfig
from distilbert_jax.data.shards.prepare import Corpus
from distilbert_jax.data.sources.files import TextFiles
from distilbert_jax.fields import FieldError, Range, check_fields
from distilbert_jax.losses.base import Loss
from distilbert_jax.losses.hard_targets import HardTargets
from distilbert_jax.losses.hidden_cosine import HiddenCosine
from distilbert_jax.losses.hidden_mse import HiddenMSE
from distilbert_jax.losses.logit_mse import LogitMSE
from distilbert_jax.losses.multi_label import MultiLabel
from distilbert_jax.losses.regression_mse import RegressionMSE
from distilbert_jax.losses.soft_targets import SoftTargets
from distilbert_jax.optimizer import AdamW
from tests.helpers.variation import TotalVariation

CORPUS = Corpus(sources={"text": TextFiles("text.txt")}, shard_dir="shards")
LOSSES = {"hard": HardTargets(), "soft": SoftTargets()}
CONFIGS = (
    Experiment(
        name="a", corpus=CORPUS, student=Student(layers="all"), losses=LOSSES, teacher=Pretrained("a"), steps=10
    ),
    CORPUS,
    Student(layers=(0, 2)),
    Pretrained("a"),
    Masking(),
    AdamW(),
    FineTuneConfig(
        model=Pretrained("a"),
        task="a",
        task_dir="b",
        losses=LOSSES,
        teacher=Pretrained("b"),
        optimizer=AdamW(),
        epochs=1,
        batch_size=8,
        max_length=32,
    ),
    HardTargets(),
    HiddenCosine(),
    HiddenMSE(),
    LogitMSE(),
    MultiLabel(),
    RegressionMSE(),
    SoftTargets(),
    TotalVariation(),
)
FIELDS = [
    pytest.param(config, name, kind, id=f"{type(config).__name__}.{name}")
    for config in CONFIGS
    for name, kind in fields.field_types(type(config)).items()
]
WRONG_TYPES = {
    bool: (1, 0, "True"),
    int: (True, 1.0, "1", 10**5_000),
    float: (True, "1", 1j, 10**400, 1e300, 1e-300, math.nan, math.inf, -math.inf),
    str: (3, b"a", "", "a\0b"),
    tuple: ([0, 1], 3, "0", ("a", 1.5), (-1,)),
}
"""Values that a field of a type refuses whatever its range is."""


def replace(config, name, value):
    """Makes a config with another value. Not by __init__, whose types jaxtyping would check first in these tests."""
    new = copy.copy(config)
    object.__setattr__(new, name, value)
    new.__post_init__()
    return new


def allowed_values(kind):
    """A strategy for the values that an annotation allows, or None if it is a class or text."""
    options = fields.split_union(kind)
    if len(options) > 1:
        return st.one_of([values for values in map(allowed_values, options) if values is not None])
    inner, allowed = fields.split_annotated(kind)
    if typing.get_origin(inner) is Literal:
        return st.sampled_from(typing.get_args(inner))
    if typing.get_origin(inner) is tuple:
        return st.lists(allowed_values(typing.get_args(inner)[0]), min_size=1, max_size=3).map(tuple)
    if inner is int:
        return st.integers(*((allowed.at_least, allowed.at_most) if allowed else ()))
    if inner is float:
        low = allowed.above if allowed.at_least is None else allowed.at_least
        high = allowed.below if allowed.at_most is None else allowed.at_most
        exact = dict(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)
        low, high = (None if bound is None else float(np.float32(bound)) for bound in (low, high))
        return st.floats(low, high, **exact).filter(lambda x: x in allowed)
    return {bool: st.booleans(), type(None): st.none()}.get(inner)


def refused_values(kind):
    """A strategy for values that an annotation does not allow: of other types, and out of its range."""
    options = fields.split_union(kind)
    if len(options) > 1:
        return st.one_of([_refused_by_all(option, options) for option in options])
    inner, allowed = fields.split_annotated(kind)
    wrong = st.sampled_from((b"bytes", {"a": 1}, object(), 1j, *WRONG_TYPES.get(typing.get_origin(inner) or inner, ())))
    if allowed is None:
        return wrong
    numbers = st.integers if inner is int else functools.partial(st.floats, allow_nan=False)
    too_small, too_large = st.nothing(), st.nothing()
    if (low := allowed.above if allowed.at_least is None else allowed.at_least) is not None:
        too_small = numbers(max_value=low).filter(lambda x: x < low or allowed.above is not None)
    if (high := allowed.below if allowed.at_most is None else allowed.at_most) is not None:
        too_large = numbers(min_value=high).filter(lambda x: x > high or allowed.below is not None)
    return wrong | too_small | too_large


def _refused_by_all(option, options):
    """The values that one option of a union refuses, without those that another one allows."""
    return refused_values(option).filter(lambda x: all(fields.find_mismatch(x, other) for other in options))


@pytest.mark.parametrize("config, name, kind", FIELDS)
def test_values_that_are_not_allowed_are_refused_by_name(config, name, kind):
    @hypothesis.settings(max_examples=60, deadline=None, database=None)
    @hypothesis.given(value=refused_values(kind))
    def refuses(value):
        with pytest.raises(FieldError) as caught:
            replace(config, name, value)
        assert caught.value.field.split(".")[0] in (name, f"a name in {name}")
        assert "must be" in caught.value.problem
        assert len(str(caught.value)) < 500

    refuses()


@pytest.mark.parametrize("config, name, kind", [p for p in FIELDS if allowed_values(p.values[2]) is not None])
def test_values_in_the_range_are_accepted(config, name, kind):
    if (type(config), name) == (FineTuneConfig, "teacher") or (type(config), name) == (Experiment, "teacher"):
        pytest.skip("without a teacher other losses are needed")

    @hypothesis.settings(max_examples=60, deadline=None, database=None)
    @hypothesis.given(value=allowed_values(kind))
    def accepts(value):
        assert getattr(replace(config, name, value), name) == value

    accepts()


@pytest.mark.parametrize("config, name, kind", FIELDS)
def test_every_number_has_a_range(config, name, kind):
    """A seed is the exception: it may be any integer."""
    for option in fields.split_union(kind):
        inner, allowed = fields.split_annotated(option)
        if inner in (int, float) and name != "seed":
            assert allowed is not None


RANGES = {
    (Range(at_least=0), 0, True): "of at least 0",
    (Range(above=0), 0, False): "greater than 0",
    (Range(above=0, at_most=1), 1, True): "greater than 0 and at most 1",
    (Range(at_least=0, below=1), 1, False): "of at least 0 and less than 1",
    (Range(at_least=1, at_most=2**31 - 1), 2**31, False): "from 1 to 2,147,483,647",
    (Range(at_least=1e-6, at_most=1_000_000), 1e-7, False): "from 1e-06 to 1,000,000",
}


@pytest.mark.parametrize("allowed, value, is_allowed", RANGES)
def test_a_range_and_its_text(allowed, value, is_allowed):
    assert (value in allowed) == is_allowed
    assert str(allowed) == RANGES[allowed, value, is_allowed]


MESSAGES = {
    "of a class": (lambda: SoftTargets(temperature=0.0), "SoftTargets.temperature must be a number from 1e-06 to"),
    "of a part": (
        lambda: Masking(mask_rate=2),
        "masking.mask_rate must be a number greater than 0 and at most 1, not 2",
    ),
    "a bool": (lambda: AdamW(b1=True), "optimizer.b1 must be a number of at least 0 and less than 1, not True"),
    "a list": (lambda: Student(layers=[0, 1]), r"student.layers must be a tuple of .* or 'all', not \[0, 1\]"),
    "rounded": (lambda: AdamW(b1=1 - 1e-12), "less than 1, not 0.999999999999, which is 1 in float32"),
    "huge": (lambda: Student(layers=(10**9999,)), "3. or 'all', not an object of type tuple that is too long to show"),
    "held out": (
        lambda: dataclasses.replace(CORPUS, sources={"held_out": TextFiles("a")}),
        "corpus.sources cannot have a source named 'held_out'",
    ),
    "no source": (lambda: dataclasses.replace(CORPUS, sources={}), "corpus.sources is empty"),
    "a source's own field": (
        lambda: replace(CORPUS, "sources", {"text": dataclasses.replace(TextFiles("a"), field="")}),
        "corpus.sources.text.field must be text, not '', which is empty",
    ),
    "all weights 0": (
        lambda: dataclasses.replace(CONFIGS[0], losses={"hard": HardTargets(weight=0.0)}),
        "every weight in losses is 0",
    ),
    "a loss class": (
        lambda: dataclasses.replace(CONFIGS[0], losses={"hard": HardTargets}),
        "losses.hard must be a Loss, not <class",
    ),
    "a name with a dot": (
        lambda: dataclasses.replace(CONFIGS[0], losses={"a.b": HardTargets()}),
        "losses has the name 'a.b': choose one of letters",
    ),
    "the name of a metric": (
        lambda: dataclasses.replace(CONFIGS[0], losses={"teacher_entropy": HardTargets()}),
        "losses has the name 'teacher_entropy'",
    ),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_messages(case):
    make, message = MESSAGES[case]
    with pytest.raises(ValueError, match=message):
        make()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scaled(Loss):
    """A user's loss, which has its own __post_init__ and an annotation that does not exist."""

    scale: float = None
    limit: Annotated[int, Range(at_least=1)] = 1
    table: "Nowhere" = None

    def __post_init__(self):
        pass

    def weights(self, batch):
        return batch.label_weights

    def values(self, params, student, teacher):
        return student.logits


def test_a_loss_of_a_user_is_checked_with_the_experiment():
    losses = {"scaled": Scaled(table=object()), **LOSSES}
    assert dataclasses.replace(CONFIGS[0], losses=losses).losses == losses
    with pytest.raises(FieldError, match=r"losses\.scaled\.weight must be a number of at least 0, not -1"):
        dataclasses.replace(CONFIGS[0], losses={"scaled": Scaled(weight=-1.0)})


def test_a_type_that_cannot_be_checked_allows_everything():
    @dataclasses.dataclass
    class Config:
        names: Mapping[str, int]
        other: typing.TypeVar("T")
        anything: typing.Any

    check_fields(Config({"a": 1}, object(), object()))
    with pytest.raises(FieldError, match=r"Config\.names\.a must be a whole number, not 'b'"):
        check_fields(Config({"a": "b"}, 1, 1))
