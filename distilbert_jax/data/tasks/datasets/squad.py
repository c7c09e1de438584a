"""SQuAD v1.1 and v2.0 (Rajpurkar et al., 2016, 2018): questions about a paragraph."""

import collections
import pathlib
from typing import NotRequired, TypedDict

from distilbert_jax.data.tasks.examples import SpanQuestion
from distilbert_jax.io import untrusted

MOST = 2**28  # bytes of a file


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


def read(path: pathlib.Path) -> list[SpanQuestion]:
    """The questions of a file in the official layout. Raises ValueError, naming the question, where an answer does not
    stand where the file says.
    """
    content = untrusted.read_json(path, File, what="a file in SQuAD's layout", max_bytes=MOST)
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


def _question(asked: Asked, context: str) -> SpanQuestion:
    impossible = asked.get("is_impossible", False)
    answers = [] if impossible else asked.get("answers", [])
    for answer in answers:
        start, text = answer["answer_start"], answer["text"]
        if start < 0 or context[start : start + len(text)] != text:
            raise ValueError(
                f"question {asked['id']!r}: the answer {text!r} does not stand at character {start} of its paragraph"
            )
    return SpanQuestion(
        id=asked["id"],
        question=asked["question"],
        context=context,
        answers=tuple(answer["text"] for answer in answers),
        answer_starts=tuple(answer["answer_start"] for answer in answers),
        has_label=impossible or "answers" in asked,
    )
