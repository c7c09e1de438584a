"""SQuAD v1.1 and v2.0 (Rajpurkar et al., 2016, 2018): questions about a paragraph, and the official score."""

import collections
import dataclasses
import pathlib
import re
import string
from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

import numpy as np

from distilbert_jax import untrusted

MOST = 2**28  # bytes of a file
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Answer(TypedDict):
    """Of the official layout, from here on: what somebody marked."""

    text: str
    answer_start: int


class Asked(TypedDict):
    """A question. Without `answers`, nobody was asked."""

    id: str
    question: str
    answers: NotRequired[list[Answer]]
    is_impossible: NotRequired[bool]


class Paragraph(TypedDict):
    """A text and what is asked of it."""

    context: str
    qas: list[Asked]


class Article(TypedDict):
    """A page of Wikipedia."""

    paragraphs: list[Paragraph]


class File(TypedDict):
    """The whole."""

    data: list[Article]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """A question, the paragraph that answers it, and the answers people gave: text and first character. None where the
    paragraph does not answer it (v2.0). `known` is whether anybody was asked: in a file, whether there are `answers`.
    """

    id: str
    question: str
    context: str
    answers: tuple[str, ...] = ()
    starts: tuple[int, ...] = ()
    known: bool = True


def read(path: pathlib.Path) -> list[Question]:
    """The questions of a file in the official layout. Raises ValueError, naming the question, where an answer does not
    stand where the file says.
    """
    content = untrusted.read_json(path, File, what="a file in SQuAD's layout", most=MOST)
    try:
        questions = [
            _question(asked, paragraph["context"])
            for article in content["data"]
            for paragraph in article["paragraphs"]
            for asked in paragraph["qas"]
        ]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if not questions:
        raise ValueError(f"{path}: no questions")
    repeated = [id for id, count in collections.Counter(q.id for q in questions).items() if count > 1]
    if repeated:
        raise ValueError(f"{path}: {len(repeated)} ids stand twice, such as {repeated[0]!r}")
    return questions


def units(questions: Sequence[Question], predictions: Mapping[str, str]) -> np.ndarray:
    """[questions, 3]: exact match, F1, and whether there is an answer. "" predicts that there is none.

    Raises ValueError where a question has no prediction: the official scorer counts it as wrong with a warning.
    """
    missing = [q.id for q in questions if q.id not in predictions]
    if missing:
        raise ValueError(f"{len(missing)} of {len(questions)} questions have no prediction, such as {missing[0]!r}")
    return np.array([(*_best(predictions[q.id], q.answers), bool(q.answers)) for q in questions])


def measure(units: np.ndarray) -> dict[str, float]:
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


def _question(asked: Asked, context: str) -> Question:
    impossible = asked.get("is_impossible", False)
    answers = [] if impossible else asked.get("answers", [])
    for answer in answers:
        start, text = answer["answer_start"], answer["text"]
        if start < 0 or context[start : start + len(text)] != text:
            raise ValueError(
                f"question {asked['id']!r}: the answer {text!r} does not stand at character {start} of its paragraph"
            )
    return Question(
        id=asked["id"],
        question=asked["question"],
        context=context,
        answers=tuple(answer["text"] for answer in answers),
        starts=tuple(answer["answer_start"] for answer in answers),
        known=impossible or "answers" in asked,
    )
