"""Exact match and F1 as the official scorers of SQuAD v1.1 and v2.0 compute them (Rajpurkar et al., 2016, 2018).

The two scorers differ for texts of which nothing is left after normalization, such as "the". In v1.1, their F1 is 0,
because they share no word with the answer. In v2.0, their F1 is 1 if nothing is left of both texts, and an annotated
answer of which nothing is left counts only if the question has no other.
"""

import collections
import re
import string
from collections.abc import Mapping, Sequence

import numpy as np

from distilbert_jax.data.tasks.examples import SpanQuestion

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def per_example(
    questions: Sequence[SpanQuestion], predictions: Mapping[str, str], *, no_answer: bool = False
) -> np.ndarray:
    """Scores the prediction of each question.

    Args:
        questions: the questions with their annotated answers.
        predictions: the predicted text by question id; "" predicts that there is no answer.
        no_answer: whether a question may have no answer. Then the rules are those of v2.0, otherwise those of v1.1.

    Returns:
        [questions, 3]: exact match, F1, and whether the question has an answer.

    Raises:
        ValueError: a question has no prediction, which the official scorers only warn about and count as wrong; or a
            question of v1.1 has no answer.
    """
    missing = [question.id for question in questions if question.id not in predictions]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(questions)} questions have no prediction, such as {missing[0]!r}; one prediction "
            "for each question is needed"
        )
    unanswered = [question.id for question in questions if not question.answers]
    if unanswered and not no_answer:
        raise ValueError(
            f"question {unanswered[0]!r} has no annotated answer, but in SQuAD v1.1 every question has one; use the "
            "task squad2 for questions without an answer"
        )
    best_match = _best_match_v2 if no_answer else _best_match_v1
    return np.array(
        [(*best_match(predictions[question.id], question.answers), bool(question.answers)) for question in questions]
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
    """Returns the F1 of two texts as bags of words, which is 0 if they share none."""
    expected, actual = normalize(answer).split(), normalize(prediction).split()
    common = (collections.Counter(expected) & collections.Counter(actual)).total()
    return 2 * common / (len(expected) + len(actual)) if common else 0.0


def _best_match_v1(prediction: str, answers: Sequence[str]) -> tuple[float, float]:
    """Returns (exact match, F1) by the rules of v1.1, each with the annotated answer that matches best."""
    exact = max(float(normalize(prediction) == normalize(answer)) for answer in answers)
    return exact, max(f1(prediction, answer) for answer in answers)


def _best_match_v2(prediction: str, answers: Sequence[str]) -> tuple[float, float]:
    """Returns (exact match, F1) by the rules of v2.0, each with the annotated answer that matches best."""
    with_words = [answer for answer in answers if normalize(answer)]
    if with_words:
        return _best_match_v1(prediction, with_words)
    is_empty = float(not normalize(prediction))
    return is_empty, is_empty
