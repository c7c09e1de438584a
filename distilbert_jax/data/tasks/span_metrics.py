"""The official scores of SQuAD (Rajpurkar et al., 2016, 2018): exact match and F1."""

import collections
import re
import string
from collections.abc import Mapping, Sequence

import numpy as np

from distilbert_jax.data.tasks.examples import SpanQuestion

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def per_example(questions: Sequence[SpanQuestion], predictions: Mapping[str, str]) -> np.ndarray:
    """[questions, 3]: exact match, F1, and whether there is an answer. "" predicts that there is none.

    Raises ValueError where a question has no prediction: the official scorer counts it as wrong with a warning.
    """
    missing = [q.id for q in questions if q.id not in predictions]
    if missing:
        raise ValueError(f"{len(missing)} of {len(questions)} questions have no prediction, such as {missing[0]!r}")
    return np.array([(*_best(predictions[q.id], q.answers), bool(q.answers)) for q in questions])


def compute_metrics(units: np.ndarray) -> dict[str, float]:
    """Exact match and F1, in per cent; of questions with and without an answer, too, where there are both."""
    has = units[:, 2] > 0
    parts = {"": np.ones_like(has)} | ({"has_answer_": has, "no_answer_": ~has} if has.any() and not has.all() else {})
    scores = {}
    for name, part in parts.items():
        scores[f"{name}exact_match"], scores[f"{name}f1"] = (100 * units[part, :2].mean(axis=0)).tolist()
    return scores


def normalize(answer: str) -> str:
    """Lower case, no punctuation, no articles, single spaces: what the official scorer compares."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def f1(prediction: str, answer: str) -> float:
    """F1 of the two bags of words. No words at all equal no words, and nothing else."""
    theirs, ours = normalize(answer).split(), normalize(prediction).split()
    if not theirs or not ours:
        return float(theirs == ours)
    common = (collections.Counter(theirs) & collections.Counter(ours)).total()
    return 2 * common / (len(theirs) + len(ours))


def _best(prediction: str, answers: tuple[str, ...]) -> tuple[float, float]:
    """(exact match, F1) with the answer that fits best. An answer that is nothing but articles or punctuation does not
    count where there are others, as the official scorer of v2.0 has it.
    """
    counted = [answer for answer in answers if normalize(answer)] or [""]
    exact = max(float(normalize(prediction) == normalize(answer)) for answer in counted)
    return exact, max(f1(prediction, answer) for answer in counted)
