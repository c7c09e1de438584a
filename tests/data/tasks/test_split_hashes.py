"""Hashes of splits: every change of an example changes one of them, and the difference is named."""

import dataclasses

import pytest

from distilbert_jax.data.tasks import examples
from distilbert_jax.data.tasks.split_hashes import LABEL_FIELDS, TEXT_FIELDS, hash_split, list_differences

CLASSES = (examples.Example, examples.SpanQuestion, examples.TaggedSentence, examples.ChoiceQuestion)
FIRST = examples.Example(id="0", texts=("a", "b"), label=1)
SPAN = examples.SpanQuestion(id="q", question="who", context="a cat", answers=("cat",), answer_starts=(2,))
SENTENCE = examples.TaggedSentence(words=("a", "cat"), tags=("O", "B-x"))
CHOICE = examples.ChoiceQuestion(first="a", choices=("b", "c"), label=1)
CHANGES = {  # name of the difference: (example, its changed fields)
    "ids": [(FIRST, {"id": "1"}), (SPAN, {"id": "r"})],
    "texts": [
        (FIRST, {"texts": ("a", "c")}),
        (FIRST, {"texts": ("a b",)}),
        (SPAN, {"question": "what"}),
        (SPAN, {"context": "a  cat"}),
        (SENTENCE, {"words": ("a cat", "")}),
        (CHOICE, {"choices": ("c", "b")}),
        (CHOICE, {"first": "b"}),
    ],
    "labels": [
        (FIRST, {"label": 0}),
        (FIRST, {"label": (0.0, 1.0)}),
        (FIRST, {"label": None}),
        (SPAN, {"answers": ()}),
        (SPAN, {"answer_starts": (1,)}),
        (SPAN, {"has_label": False}),
        (SENTENCE, {"tags": ("O", "I-x")}),
        (CHOICE, {"label": 0}),
    ],
}


def test_every_field_of_an_example_is_hashed():
    known = {"id", *TEXT_FIELDS, *LABEL_FIELDS}
    for kind in CLASSES:
        # The place of an example in its file is not compared.
        assert {field.name for field in dataclasses.fields(kind) if field.compare} <= known


@pytest.mark.parametrize(("kind", "example", "change"), [(k, *case) for k, cases in CHANGES.items() for case in cases])
def test_a_change_is_named(kind, example, change):
    one, other = hash_split([example], "xy"), hash_split([dataclasses.replace(example, **change)], "xy")
    assert list_differences({"dev": one}, {"dev": one}) == []
    assert list_differences({"dev": one}, {"dev": other}) == [f"dev: other {kind}"]


def test_order_number_and_names_of_labels_count():
    second = dataclasses.replace(FIRST, texts=("c", "d"))
    one = {"dev": hash_split([FIRST, second], "xy")}
    assert list_differences(one, {"dev": hash_split([second, FIRST], "xy")}) == ["dev: other texts"]
    assert list_differences(one, {"dev": hash_split([FIRST, second], "yx")}) == ["dev: other labels"]
    assert list_differences(one, {"dev": hash_split([FIRST], "xy")}) == ["dev: 2 examples and 1 examples"]
    assert list_differences(one, {"test": one["dev"]}) == [
        "dev: only one of them has this split",
        "test: only one of them has this split",
    ]


def test_only_training_labels_may_be_missing_in_one():
    one = hash_split([FIRST], "xy")
    other = hash_split([dataclasses.replace(FIRST, label=None)], "xy")
    assert other["labels"] is None
    assert list_differences({"train": one}, {"train": other}) == ["train: other labels"]
    assert list_differences({"train": one}, {"train": other}, unlabelled_train=True) == []
    assert list_differences({"dev": one}, {"dev": other}, unlabelled_train=True) == ["dev: other labels"]
    changed = hash_split([dataclasses.replace(FIRST, label=0)], "xy")
    assert list_differences({"train": one}, {"train": changed}, unlabelled_train=True) == ["train: other labels"]
