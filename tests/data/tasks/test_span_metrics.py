"""SQuAD: the scorers of v1.1 and v2.0 are written again here, as published, and must give the same numbers."""

import collections
import random
import re
import string

import numpy as np
import pytest

from distilbert_jax.data.tasks import span_metrics
from distilbert_jax.data.tasks.examples import SpanQuestion
from distilbert_jax.data.tasks.task_types.span_extraction import PredictedSpan, SpanExtraction

TEXTS = (
    "the",
    ".",
    "",
    "a red plum",
    "the red",
    "red",
    "red red plum",
    "An old, old house!",
    "plum the",
    "...",
    "œ the",
)


def clean(text):
    text = "".join(character for character in text.lower() if character not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def v1_f1(prediction, truth):
    prediction, truth = clean(prediction).split(), clean(truth).split()
    same = sum((collections.Counter(prediction) & collections.Counter(truth)).values())
    if same == 0:
        return 0
    precision, recall = same / len(prediction), same / len(truth)
    return 2 * precision * recall / (precision + recall)


def v1_scores(prediction, answers):
    return max(clean(prediction) == clean(a) for a in answers), max(v1_f1(prediction, a) for a in answers)


def v2_f1(truth, prediction):
    truth, predicted = clean(truth).split(), clean(prediction).split()
    if not truth or not predicted:
        return int(truth == predicted)
    return v1_f1(prediction, " ".join(truth))


def v2_scores(prediction, answers):
    answers = [answer for answer in answers if clean(answer)] or [""]
    return max(clean(prediction) == clean(a) for a in answers), max(v2_f1(a, prediction) for a in answers)


def v2_best_f1(predictions, f1, na_probs, has_answer):
    """find_best_thresh of the script of v2.0."""
    score = best = sum(not answered for answered in has_answer.values())
    threshold = 0.0
    for key in sorted(na_probs, key=lambda key: na_probs[key]):
        score += f1[key] if has_answer[key] else -1 if predictions[key] else 0
        if score > best:
            best, threshold = score, na_probs[key]
    return 100.0 * best / len(f1), threshold


def make_question(number, answers):
    return SpanQuestion(id=str(number), question="?", context="", answers=answers, answer_starts=(0,) * len(answers))


@pytest.mark.parametrize("no_answer", [False, True])
def test_scores_are_those_of_the_published_scorer(no_answer):
    draw = random.Random(0)
    official = v2_scores if no_answer else v1_scores
    for trial in range(2_000):
        answers = tuple(draw.choices(TEXTS, k=draw.randint(0 if no_answer else 1, 3)))
        prediction = draw.choice(TEXTS)
        actual = span_metrics.per_example(
            [make_question(trial, answers)], {str(trial): prediction}, no_answer=no_answer
        )
        expected = [*map(float, official(prediction, answers)), float(bool(answers))]
        assert actual[0].tolist() == pytest.approx(expected), (answers, prediction)


@pytest.mark.parametrize(
    ("answers", "prediction", "exact", "f1"),
    [(("the",), "the", 1, 0), (("the", "the red"), "the", 1, 0), ((".",), ".", 1, 0), (("red",), "the red!", 1, 1)],
)
def test_v1_by_hand(answers, prediction, exact, f1):
    actual = span_metrics.per_example([make_question(0, answers)], {"0": prediction})
    assert actual.tolist() == [[exact, f1, 1]]


def test_a_question_of_v1_needs_an_answer():
    with pytest.raises(ValueError, match=r"question '0' has no annotated answer, but in SQuAD v1.1 .* task squad2"):
        span_metrics.per_example([make_question(0, ())], {"0": "a"})


def both_best_f1(questions, texts, margins):
    """Returns our metrics, and the best F1 and threshold of the published script."""
    task_type = SpanExtraction(no_answer=True)
    spans = [PredictedSpan(text, margin) for text, margin in zip(texts, margins, strict=True)]
    keys = [question.id for question in questions]
    official = v2_best_f1(
        dict(zip(keys, texts, strict=True)),
        {q.id: v2_scores(text, q.answers)[1] for q, text in zip(questions, texts, strict=True)},
        dict(zip(keys, margins, strict=True)),
        {question.id: bool(question.answers) for question in questions},
    )
    return task_type.compute_metrics(task_type.per_example(questions, spans)), *official


def test_best_f1_is_that_of_the_published_script():
    """With different margins, and spans that have words."""
    draw = random.Random(1)
    for _ in range(200):
        questions = [make_question(i, draw.choice([(), ("red",), ("a red plum",)])) for i in range(9)]
        texts = draw.choices(["red", "plum", "old house"], k=9)
        actual, best, threshold = both_best_f1(questions, texts, draw.sample(range(-50, 50), k=9))
        assert actual["best_f1"] == pytest.approx(best)
        if np.isfinite(actual["threshold_of_best_f1"]):
            assert actual["threshold_of_best_f1"] == threshold
        else:  # it is best to never answer, for which the script prints 0
            assert threshold == 0


@pytest.mark.parametrize(
    ("answers", "texts", "margins", "ours", "official"),
    [
        ([("red",), (), (), ("red",)], ["red", "red", "red", "plum"], [1.0, 1.0, 2.0, 3.0], 50.0, 75.0),  # tied margins
        ([("red",), ()], ["red", "the"], [1.0, 0.0], 100.0, 50.0),  # nothing is left of "the"
    ],
)
def test_best_f1_is_one_that_a_threshold_gives(answers, texts, margins, ours, official):
    """The two documented cases in which no threshold gives what the published script prints."""
    questions = [make_question(i, given) for i, given in enumerate(answers)]
    actual, best, _ = both_best_f1(questions, texts, margins)
    assert (actual["best_f1"], best) == (ours, official)
    with_threshold = SpanExtraction(no_answer=True, threshold=actual["threshold_of_best_f1"])
    spans = [PredictedSpan(text, margin) for text, margin in zip(texts, margins, strict=True)]
    assert with_threshold.compute_metrics(with_threshold.per_example(questions, spans))["f1"] == ours


def test_a_paragraph_without_a_span_has_a_finite_margin():
    task_type = SpanExtraction(no_answer=True)
    question = make_question(0, ())
    (answer,) = task_type.decode([question], [], [])
    assert answer.text == ""
    assert np.isfinite(task_type.per_example([question], [answer])).all()
