"""What may be given to a head from Python: many examples are a list, one text a string, a pair of texts a tuple."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from distilbert_jax import Pretrained, load_pretrained, predict_logits
from distilbert_jax.hub.load import parameter_shapes
from distilbert_jax.inference.fill_mask import fill_mask, make_fill_mask
from distilbert_jax.models import student_init
from distilbert_jax.models.transformer import HeadConfig

TEXTS = ["the old dog sees a cat", ("a small bird", "in the tree"), "the cat runs", ("the dog", "a stone")]
LONE = "a \ud800 dog"


@pytest.fixture(scope="module")
def heads(shallow_bert_folder):
    """{head: a model with it}; the weights of the heads are random."""
    models = {}
    for head in ("sequence_classification", "token_classification", "question_answering", "multiple_choice"):
        model = load_pretrained(Pretrained(str(shallow_bert_folder)), head=head)
        labels = ("O", "B-x", "I-x") if head.endswith("classification") else ()
        model = dataclasses.replace(model, head_config=HeadConfig(labels=labels), has_head=True)
        shapes = parameter_shapes(model.config, head, model.head_config)
        params, _ = student_init.add_missing_params(model.params, shapes, seed=0)
        models[head] = dataclasses.replace(model, params=params)
    return models


def test_texts_and_pairs_keep_their_own_logits(heads):
    """In every order, in a list or one by one."""
    model = heads["sequence_classification"]
    alone = [predict_logits(model, text)[0] for text in TEXTS]
    assert len({logits.tobytes() for logits in alone}) == len(TEXTS)
    for order in ([0, 1, 2, 3], [1, 0, 3, 2], [3, 2, 1, 0, 1]):
        texts = [TEXTS[i] for i in order]
        for together in (
            predict_logits(model, *texts),
            predict_logits(model, texts),
            predict_logits(model, texts[:1], *texts[1:]),
        ):
            assert len(together) == len(texts)
            for i, logits in zip(order, together, strict=True):
                np.testing.assert_allclose(logits, alone[i], rtol=1e-5, atol=1e-6)


def test_lists_of_examples_of_the_other_heads(heads):
    for head, examples in {
        "token_classification": [["the", "dog"], ["a", "small", "cat"]],
        "question_answering": [("who runs", "the dog runs"), ("who", "a cat")],
        "multiple_choice": [("the dog", ["runs", "sees a cat"]), ("a cat", ["runs", "sees", "is"])],
    }.items():
        together = predict_logits(heads[head], examples)
        assert len(together) == 2
        for logits, example in zip(together, examples, strict=True):
            np.testing.assert_allclose(logits, predict_logits(heads[head], example)[0], rtol=1e-5, atol=1e-6)


BAD = [
    ("sequence_classification", [], "there is no example"),
    ("sequence_classification", [[]], "example 1 is a list of 0"),
    ("sequence_classification", [None], "example 1 is None, but"),
    ("sequence_classification", ["the dog", 3], "example 2 is of type int, but"),
    ("sequence_classification", [b"the dog"], "example 1 is of type bytes"),
    (
        "sequence_classification",
        [("a", "b", "c")],
        r"a tuple of 3.* a text, or a pair of texts as a tuple; many examples",
    ),
    ("sequence_classification", [["a", ["b", "c"]]], "example 2 is a list of 2"),
    ("sequence_classification", [("a", None)], r"example 1 must be a text \(str\), not None"),
    ("sequence_classification", [LONE], "example 1: character 3 is .*half of a surrogate pair"),
    ("sequence_classification", [["a", ("b", LONE)]], "example 2: character 3"),
    ("token_classification", ["the dog runs"], "a text, 'the dog runs', but for .* an example is a list of words"),
    ("token_classification", [["the", ["dog"]]], "example 1 is a text, 'the'"),
    ("token_classification", [["the", 3]], "example 1 must be a text .*, not of type int"),
    ("token_classification", [["the", LONE]], "half of a surrogate pair"),
    ("token_classification", [[]], "list of 0"),
    ("question_answering", ["who runs"], r"an example is a tuple \(question, paragraph\)"),
    ("question_answering", [("who", "a", "b")], "a tuple of 3"),
    ("question_answering", [("who", 3)], "must be a text"),
    ("multiple_choice", [("the dog", "runs")], r"an example is a tuple \(text, list of choices\)"),
    ("multiple_choice", [("the dog", [])], "an example is a tuple"),
    ("multiple_choice", [("the dog", ["runs", None])], "must be a text"),
]


@pytest.mark.parametrize(("head", "examples", "message"), BAD)
def test_other_forms_are_refused(heads, head, examples, message):
    with pytest.raises(ValueError, match=message):
        predict_logits(heads[head], *examples)


def test_logits_that_are_not_finite_are_refused(heads):
    model = heads["sequence_classification"]
    spoilt = jax.tree.map(lambda x: x * np.float32(math.nan), model.params["classifier"])
    model = dataclasses.replace(model, params={**model.params, "classifier": spoilt})
    with pytest.raises(ValueError, match="logits for example 1 are NaN or infinite"):
        predict_logits(model, "the dog")


def test_masked_words(bert):
    predict = make_fill_mask(bert)
    sentences = ["the [MASK] runs", "a dog sees a [MASK]"]
    assert fill_mask(predict, bert.tokenizer, sentences) == [fill_mask(predict, bert.tokenizer, s) for s in sentences]
    assert len(fill_mask(predict, bert.tokenizer, sentences[0], count=3)) == 3


@pytest.mark.parametrize(
    ("sentence", "count", "message"),
    [
        (None, 5, r"the sentence must be a text \(str\), not None"),
        (3, 5, "not of type int"),
        (("the [MASK]",), 5, "not a tuple of 1"),
        ([], 5, "the list of sentences is empty"),
        (["the [MASK]", None], 5, "sentence 2 must be a text"),
        ("the \udfff [MASK]", 5, "half of a surrogate pair"),
        ("the dog", 5, "contains 0 mask tokens"),
        ("the [MASK]", 0, "count must be a whole number of at least 1, not 0"),
        ("the [MASK]", -1, "count must be"),
    ],
)
def test_bad_sentences_are_refused(bert, sentence, count, message):
    with pytest.raises(ValueError, match=message):
        fill_mask(make_fill_mask(bert), bert.tokenizer, sentence, count=count)


def test_probabilities_that_are_not_finite_are_refused(bert):
    def predict(ids, position):
        return np.full(bert.tokenizer.vocab_size, np.nan)

    with pytest.raises(ValueError, match="are NaN or infinite"):
        fill_mask(predict, bert.tokenizer, "the [MASK]")
