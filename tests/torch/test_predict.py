"""Logits of texts equal those of Transformers with its own tokenizer."""

import numpy as np
import pytest

import distilbert_jax
from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.data.tasks.examples import Example
from distilbert_jax.data.tasks.task_types.base import TaskTokenizer
from distilbert_jax.data.tasks.task_types.classification import Classification
from tests.torch.models import EVERY, torch, transformers, write
from tests.torch.test_heads import AUTO, both

PAIR = ("the old dog sees a cat", "a small bird in the tree")
WORDS = ["The", "bird", "xyz", "sleeps"]
EXAMPLES = {  # case: (our example, arguments of the Hub tokenizer, their output in the shape of our logits)
    "one class": (PAIR, dict(text=PAIR[0], text_pair=PAIR[1]), lambda out: out.logits),
    "several classes": (PAIR[0], dict(text=PAIR[0]), lambda out: out.logits),
    "a number": (PAIR[1], dict(text=PAIR[1]), lambda out: out.logits),
    "tags": (WORDS, dict(text=WORDS, is_split_into_words=True), lambda out: out.logits[0]),
    "a span": (PAIR, dict(text=PAIR[0], text_pair=PAIR[1]), lambda out: torch.cat([out.start_logits, out.end_logits])),
    "a choice": (
        (PAIR[0], [PAIR[1], "runs"]),
        dict(text=[PAIR[0]] * 2, text_pair=[PAIR[1], "runs"], padding=True),
        lambda out: out.logits,
    ),
}


@pytest.mark.parametrize("family", ["bert", "distilbert"])
@pytest.mark.parametrize("case", EXAMPLES)
def test_logits(family, case, tmp_path):
    hub_model, our_model = both(family, case)
    folder = write(hub_model, tmp_path)
    example, tokenizer_arguments, to_logits = EXAMPLES[case]
    actual = distilbert_jax.predict_logits(
        distilbert_jax.load_pretrained(Pretrained(str(folder)), head=our_model.head), example
    )[0]
    inputs = transformers.AutoTokenizer.from_pretrained(folder)(**tokenizer_arguments, return_tensors="pt")
    if family == "distilbert":
        inputs.pop("token_type_ids", None)
    if case == "a choice":
        inputs = {name: x[None] for name, x in inputs.items()}
    with torch.no_grad():
        np.testing.assert_allclose(actual, to_logits(hub_model(**inputs)).numpy(), **EVERY)


def test_every_head_is_covered():
    assert {both("bert", case)[1].head for case in EXAMPLES} == set(AUTO)


def test_several_examples_of_different_lengths(tmp_path):
    hub_model, our_model = both("distilbert", "a span")
    model = distilbert_jax.load_pretrained(Pretrained(str(write(hub_model, tmp_path))), head=our_model.head)
    together = distilbert_jax.predict_logits(model, PAIR, ("who", "a cat"))
    assert together[0].shape[1] > together[1].shape[1]
    np.testing.assert_allclose(together[1], distilbert_jax.predict_logits(model, ("who", "a cat"))[0], **EVERY)


def test_a_model_without_the_head(tmp_path):
    hub_model, _ = both("distilbert", "a span")
    folder = write(hub_model, tmp_path)
    with pytest.raises(ValueError, match="no task has the head masked_lm: choose one of sequence_classification"):
        distilbert_jax.predict_logits(distilbert_jax.load_pretrained(Pretrained(str(folder))), "a")


@pytest.mark.parametrize("lengths", [(30, 0), (30, 4), (4, 30), (20, 21), (21, 20), (6, 6)])
def test_long_texts_are_truncated_as_in_transformers(lengths, tmp_path):
    hub_model, our_model = both("bert", "one class")
    first, second = ("a cat " * 20).split()[: lengths[0]], ("the dog " * 20).split()[: lengths[1]]
    texts = (" ".join(first), *([" ".join(second)] if second else []))
    tokenizer = transformers.AutoTokenizer.from_pretrained(write(hub_model, tmp_path))
    expected = tokenizer(*texts, truncation="longest_first", max_length=24)
    task_type = Classification(labels=("no", "yes"), metrics=())
    example = Example(id="", texts=texts, label=None)
    (row,) = task_type.encode([example], TaskTokenizer(tokenizer=our_model.tokenizer, max_length=24)).rows
    assert row.tokens.tolist() == expected["input_ids"]
    assert row.token_types.tolist() == expected["token_type_ids"]
