"""SQuAD v1.1 and v2.0 (Rajpurkar et al., 2016, 2018): a reader for files of questions about paragraphs."""

import collections
import pathlib
from typing import NotRequired, TypedDict

from distilbert_jax.data.tasks.examples import SpanQuestion
from distilbert_jax.io import untrusted

MAX_SQUAD_BYTES = 2**28  # of one file


class SquadAnswer(TypedDict):
    """An annotated answer in the official file layout."""

    text: str
    answer_start: int


class SquadQuestion(TypedDict):
    """A question in the official file layout. Without `answers`, nobody annotated it."""

    id: str
    question: str
    answers: NotRequired[list[SquadAnswer]]
    is_impossible: NotRequired[bool]


class SquadParagraph(TypedDict):
    """A paragraph and its questions in the official file layout."""

    context: str
    qas: list[SquadQuestion]


class SquadArticle(TypedDict):
    """A Wikipedia article in the official file layout."""

    paragraphs: list[SquadParagraph]


class SquadFile(TypedDict):
    """A file in the official layout."""

    data: list[SquadArticle]


def read(path: pathlib.Path, *, no_answer: bool = True) -> list[SpanQuestion]:
    """Returns the questions of a file in the official layout.

    Args:
        path: the file.
        no_answer: whether an annotated question may have no answer, as in v2.0.

    Raises:
        ValueError: the file has another layout, an id is not unique, a question has no answer but needs one, or an
            answer is not found at its position in the paragraph; the message names the question.
    """
    content = untrusted.read_json(path, SquadFile, what="a file in SQuAD's layout", max_bytes=MAX_SQUAD_BYTES)
    try:
        questions = [
            _make_question(question, paragraph["context"], path)
            for article in content["data"]
            for paragraph in article["paragraphs"]
            for question in paragraph["qas"]
        ]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if not questions:
        raise ValueError(f"{path}: the file has no questions")
    counts = collections.Counter(question.id for question in questions)
    repeated = [question_id for question_id, count in counts.items() if count > 1]
    unanswered = [question.id for question in questions if question.has_label and not question.answers]
    if unanswered and not no_answer:
        raise ValueError(
            f"{path}: {len(unanswered)} questions have no answer, such as {unanswered[0]!r}, but in SQuAD v1.1 every "
            "question has one; use the task squad2"
        )
    if repeated:
        raise ValueError(
            f"{path}: {len(repeated)} question ids occur more than once, such as {repeated[0]!r}; make each unique"
        )
    return questions


def _make_question(question: SquadQuestion, context: str, path: pathlib.Path) -> SpanQuestion:
    """Returns one question. Raises ValueError if an answer is not at its position in the paragraph."""
    is_impossible = question.get("is_impossible", False)
    # Impossible questions of v2.0 may list plausible answers, which are wrong.
    answers = [] if is_impossible else question.get("answers", [])
    for answer in answers:
        start, text = answer["answer_start"], answer["text"]
        if start < 0 or context[start : start + len(text)] != text:
            raise ValueError(
                f"question {question['id']!r}: the answer {text!r} is not at character {start} of its paragraph; "
                "correct answer_start"
            )
    return SpanQuestion(
        id=question["id"],
        question=question["question"],
        context=context,
        answers=tuple(answer["text"] for answer in answers),
        answer_starts=tuple(answer["answer_start"] for answer in answers),
        has_label=is_impossible or "answers" in question,
        location=f"{path}, question {question['id']!r}",
    )
