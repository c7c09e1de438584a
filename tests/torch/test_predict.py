"""Texts in, scores out: as transformers answers them with its own tokenizer."""

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
ASKED = {  # case: (what we are asked, what their tokenizer is given, their logits as our scores)
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
@pytest.mark.parametrize("case", ASKED)
def test_scores(family, case, tmp_path):
    theirs, ours = both(family, case)
    folder = write(theirs, tmp_path)
    asked, given, as_scores = ASKED[case]
    got = distilbert_jax.predict_logits(distilbert_jax.load_pretrained(Pretrained(str(folder)), head=ours.head), asked)[
        0
    ]
    inputs = transformers.AutoTokenizer.from_pretrained(folder)(**given, return_tensors="pt")
    if family == "distilbert":
        inputs.pop("token_type_ids", None)
    if case == "a choice":
        inputs = {name: x[None] for name, x in inputs.items()}
    with torch.no_grad():
        np.testing.assert_allclose(got, as_scores(theirs(**inputs)).numpy(), **EVERY)


def test_each_head_is_one_of_ours():
    assert {both("bert", case)[1].head for case in ASKED} == set(AUTO)


def test_several_examples_of_different_lengths(tmp_path):
    theirs, ours = both("distilbert", "a span")
    model = distilbert_jax.load_pretrained(Pretrained(str(write(theirs, tmp_path))), head=ours.head)
    together = distilbert_jax.predict_logits(model, PAIR, ("who", "a cat"))
    assert together[0].shape[1] > together[1].shape[1]
    np.testing.assert_allclose(together[1], distilbert_jax.predict_logits(model, ("who", "a cat"))[0], **EVERY)


def test_a_model_without_the_head(tmp_path):
    theirs, _ = both("distilbert", "a span")
    folder = write(theirs, tmp_path)
    with pytest.raises(ValueError, match="no task has the head masked_lm: choose one of sequence_classification"):
        distilbert_jax.predict_logits(distilbert_jax.load_pretrained(Pretrained(str(folder))), "a")


@pytest.mark.parametrize("lengths", [(30, 0), (30, 4), (4, 30), (20, 21), (21, 20), (6, 6)])
def test_what_is_too_long_is_cut_as_transformers_cuts(lengths, tmp_path):
    theirs, ours = both("bert", "one class")
    first, second = ("a cat " * 20).split()[: lengths[0]], ("the dog " * 20).split()[: lengths[1]]
    texts = (" ".join(first), *([" ".join(second)] if second else []))
    tokenizer = transformers.AutoTokenizer.from_pretrained(write(theirs, tmp_path))
    wanted = tokenizer(*texts, truncation="longest_first", max_length=24)
    form = Classification(labels=("no", "yes"), metrics=())
    example = Example(id="", texts=texts, label=None)
    (row,) = form.encode([example], TaskTokenizer(tokenizer=ours.tokenizer, max_length=24)).rows
    assert row.tokens.tolist() == wanted["input_ids"]
    assert row.token_types.tolist() == wanted["token_type_ids"]
