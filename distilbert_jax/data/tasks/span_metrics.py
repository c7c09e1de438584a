"""Exact match and F1 as the official scorer of SQuAD computes them (Rajpurkar et al., 2016, 2018)."""

import collections
import re
import string
from collections.abc import Mapping, Sequence

import numpy as np

from distilbert_jax.data.tasks.examples import SpanQuestion

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def per_example(questions: Sequence[SpanQuestion], predictions: Mapping[str, str]) -> np.ndarray:
    """Scores the prediction of each question.

    Args:
        questions: the questions with their annotated answers.
        predictions: the predicted text by question id; "" predicts that there is no answer.

    Returns:
        [questions, 3]: exact match, F1, and whether the question has an answer.

    Raises:
        ValueError: a question has no prediction. The official scorer only warns and counts it as wrong.
    """
    missing = [question.id for question in questions if question.id not in predictions]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(questions)} questions have no prediction, such as {missing[0]!r}; one prediction "
            "for each question is needed"
        )
    return np.array(
        [(*_best_match(predictions[question.id], question.answers), bool(question.answers)) for question in questions]
    )


def compute_metrics(values: np.ndarray) -> dict[str, float]:
    """Returns exact match and F1 in per cent.

    If only some questions have an answer, the metrics of those with and without one are added.

    Args:
        values: what `per_example` returned, [questions, 3].
    """
    has_answer = values[:, 2] > 0
    subsets = {"": np.ones_like(has_answer)}
    if has_answer.any() and not has_answer.all():
        subsets |= {"has_answer_": has_answer, "no_answer_": ~has_answer}
    metrics = {}
    for prefix, subset in subsets.items():
        metrics[f"{prefix}exact_match"], metrics[f"{prefix}f1"] = (100 * values[subset, :2].mean(axis=0)).tolist()
    return metrics


def normalize(answer: str) -> str:
    """Returns the text that the official scorer compares: lower case, no punctuation or articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def f1(prediction: str, answer: str) -> float:
    """Returns the F1 of two texts as bags of words. A text without words matches only another one without words."""
    expected, actual = normalize(answer).split(), normalize(prediction).split()
    if not expected or not actual:
        return float(expected == actual)
    common = (collections.Counter(expected) & collections.Counter(actual)).total()
    return 2 * common / (len(expected) + len(actual))


def _best_match(prediction: str, answers: tuple[str, ...]) -> tuple[float, float]:
    """Returns (exact match, F1), each with the annotated answer that matches best.

    As in the official scorer of v2.0, answers that consist of articles and punctuation count only if there is no other.
    """
    candidates = [answer for answer in answers if normalize(answer)] or [""]
    exact = max(float(normalize(prediction) == normalize(answer)) for answer in candidates)
    return exact, max(f1(prediction, answer) for answer in candidates)
