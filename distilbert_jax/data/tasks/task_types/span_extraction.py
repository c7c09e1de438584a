"""Span extraction: the first and the last token of the answer to a question in a paragraph."""

import dataclasses
import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from distilbert_jax.data.tasks import span_metrics
from distilbert_jax.data.tasks.examples import SpanQuestion
from distilbert_jax.data.tasks.task_types.base import EncodedExamples, EncodedRow, TaskTokenizer, iter_windows

MAX_QUESTION_TOKENS = 64
MAX_ANSWER_TOKENS = 30
NUM_CANDIDATES = 20  # the best starts and the best ends of each window, of which all pairs are compared
MAX_MARGIN = 2.0**52  # the largest margin, also of a question whose paragraph has no span at all
DEFAULT_OVERLAP_TOKENS = 128  # of neighbouring windows of a paragraph; half a window if that is less


class PredictedSpan(NamedTuple):
    """The answer to a question.

    Attributes:
        text: the best span of all windows.
        margin: the logit of "no answer" minus that of the best span, from −MAX_MARGIN to MAX_MARGIN, so that it can be
            stored as JSON. "No answer" takes the lowest [CLS] logit of all windows.
    """

    text: str
    margin: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpanExtraction:
    """The task type of extractive question answering (SQuAD).

    A row has two predictions over its tokens: where the answer starts and where it ends. Only tokens of the paragraph
    and [CLS] are allowed; [CLS] means that the window does not contain the answer. A paragraph that is too long is
    always read in windows.

    Attributes:
        no_answer: True if a question may have no answer (SQuAD v2.0), which is written "".
        threshold: "" is predicted if the margin of the best span exceeds this. The metrics include the threshold that
            would have been best for the evaluated examples.
        head: the head that makes the predictions.
        main_metric: F1 over the words of the answer.
        labels: empty, because answers have no names.
        problem_type: None, because only sequence classification has one.
    """

    no_answer: bool = False
    threshold: float = 0.0
    head: str = "question_answering"
    main_metric: str = "f1"
    labels: tuple[str, ...] = ()
    problem_type: None = None

    def encode(self, examples: Sequence[SpanQuestion], task_tokenizer: TaskTokenizer) -> EncodedExamples:
        """Returns one row for each window of each paragraph. Questions are cut to 64 tokens."""
        questions = task_tokenizer.encode_texts([example.question for example in examples])
        contexts = task_tokenizer.tokenizer.encode([example.context for example in examples], offsets=True)
        rows: list[EncodedRow] = []
        cut_examples = cut_tokens = 0
        for number, (example, question, context) in enumerate(zip(examples, questions, contexts, strict=True)):
            if cut := max(0, len(question) - MAX_QUESTION_TOKENS):
                cut_examples, cut_tokens = cut_examples + 1, cut_tokens + cut
            question = question[:MAX_QUESTION_TOKENS]
            ids, offsets = np.array(context.ids, np.int32), np.array(context.offsets, np.int32).reshape(-1, 2)
            answer = _find_answer_tokens(example, offsets)
            room = task_tokenizer.max_length - 3 - len(question)
            overlap = task_tokenizer.window_overlap
            if overlap is None:
                overlap = min(DEFAULT_OVERLAP_TOKENS, room // 2)
            rows += [
                _encode_window(
                    number,
                    question,
                    ids[window],
                    offsets[window],
                    answer=_shift_into_window(answer, window),
                    has_label=example.has_label,
                    task_tokenizer=task_tokenizer,
                )
                for window in iter_windows(len(ids), room=room, overlap=overlap)
            ]
        return EncodedExamples(rows=rows, cut_examples=cut_examples, cut_tokens=cut_tokens)

    def decode(
        self, examples: Sequence[SpanQuestion], rows: Sequence[EncodedRow], logits: Sequence[np.ndarray]
    ) -> list[PredictedSpan]:
        """Returns the best span of all windows of each question, and its margin."""
        best = [(-np.inf, "")] * len(examples)
        no_answer_logits = np.full(len(examples), np.inf)
        for row, row_logits in zip(rows, logits, strict=True):
            assert row.origin is not None
            no_answer_logits[row.example] = min(no_answer_logits[row.example], row_logits[0, 0] + row_logits[1, 0])
            span_logit, start, end = _find_best_span(row_logits, row.origin[:, 0] >= 0)
            if span_logit > best[row.example][0]:
                text = examples[row.example].context[row.origin[start, 0] : row.origin[end, 1]]
                best[row.example] = (span_logit, text)
        return [
            PredictedSpan(text, float(np.clip(no_answer_logit - span_logit, -MAX_MARGIN, MAX_MARGIN)))
            for (span_logit, text), no_answer_logit in zip(best, no_answer_logits, strict=True)
        ]

    def per_example(self, examples: Sequence[SpanQuestion], answers: Sequence[PredictedSpan]) -> np.ndarray:
        """Returns the numbers that the metrics need.

        Returns:
            [questions, 3]: exact match, F1, and whether the question has an answer. With `no_answer` [questions, 6]:
            also exact match and F1 of the best span, whatever the threshold says, and its margin.
        """
        values = span_metrics.per_example(examples, self._texts_by_id(examples, answers), no_answer=self.no_answer)
        if not self.no_answer:
            return values
        spans = span_metrics.per_example(
            examples,
            {example.id: answer.text for example, answer in zip(examples, answers, strict=True)},
            no_answer=True,
        )
        return np.column_stack([values, spans[:, :2], [answer.margin for answer in answers]])

    def compute_metrics(self, per_example: np.ndarray) -> dict[str, float]:
        """Returns SQuAD's metrics in per cent; with `no_answer` also the best threshold and the F1 that it gives."""
        official = span_metrics.compute_metrics(per_example[:, :3])
        return official | (_find_best_threshold(per_example) if per_example.shape[1] > 3 else {})

    def format_submission(self, examples: Sequence[SpanQuestion], answers: Sequence[PredictedSpan]) -> tuple[str, str]:
        """Returns a file in SQuAD's format: one JSON object with the answer of each question id."""
        return ".json", json.dumps(self._texts_by_id(examples, answers), ensure_ascii=False) + "\n"

    def _texts_by_id(self, examples: Sequence[SpanQuestion], answers: Sequence[PredictedSpan]) -> dict[str, str]:
        """Returns the final answer of each question by id; "" if the margin is above the threshold."""

        def final_text(answer: PredictedSpan) -> str:
            return "" if self.no_answer and answer.margin > self.threshold else answer.text

        return {example.id: final_text(answer) for example, answer in zip(examples, answers, strict=True)}


def _find_best_threshold(per_example: np.ndarray) -> dict[str, float]:
    """Finds the threshold with the highest F1 on the evaluated questions.

    The official scorer computes the same number, except in two cases in which no threshold gives the F1 that it prints:

    - It may answer only some of several questions with the same margin. Here all of them are answered, or none.
    - A span of which nothing is left after normalization, such as "the", counts as wrong if there is no answer,
      although it counts as right in the F1 for a given threshold. Here it is right in both.

    Returns:
        That F1 in per cent, and the threshold: −∞ if it is best to never answer, where the official scorer prints 0.
    """
    no_answer_f1, span_f1, margins = 1 - per_example[:, 2], per_example[:, 4], per_example[:, 5]
    # Start with "" for every question, then replace it by the span in the order of the margins.
    order = np.argsort(margins, kind="stable")
    totals = no_answer_f1.sum() + np.concatenate([[0.0], np.cumsum((span_f1 - no_answer_f1)[order])])
    thresholds = np.concatenate([[-np.inf], margins[order]])
    # No threshold lies between equal margins, so only the last of them is a possible choice.
    is_tied = np.append(thresholds[1:] == thresholds[:-1], False)
    best = int(np.where(is_tied, -np.inf, totals).argmax())
    return {"best_f1": 100 * totals[best] / len(per_example), "threshold_of_best_f1": float(thresholds[best])}


def _find_answer_tokens(example: SpanQuestion, offsets: np.ndarray) -> tuple[int, int] | None:
    """Returns (first, last) token of the first annotated answer, or None if there is none."""
    if not example.answers:
        return None
    start, end = example.answer_starts[0], example.answer_starts[0] + len(example.answers[0])
    inside = np.flatnonzero((offsets[:, 1] > start) & (offsets[:, 0] < end))
    return (int(inside[0]), int(inside[-1])) if len(inside) else None


def _shift_into_window(answer: tuple[int, int] | None, window: slice) -> tuple[int, int] | None:
    """Returns the answer counted from the window's start, or None if the window does not contain all of it."""
    if answer is None or answer[0] < window.start or answer[1] >= window.stop:
        return None
    return answer[0] - window.start, answer[1] - window.start


def _encode_window(
    number: int,
    question: np.ndarray,
    ids: np.ndarray,
    offsets: np.ndarray,
    *,
    answer: tuple[int, int] | None,
    has_label: bool,
    task_tokenizer: TaskTokenizer,
) -> EncodedRow:
    """Returns the row of one window.

    Args:
        number: index of the question.
        question: its token ids.
        ids: token ids of the window.
        offsets: first and last + 1 character of each of these tokens in the paragraph, [t, 2].
        answer: first and last token of the answer in the window; None labels [CLS].
        has_label: False if nobody annotated the question, so that it has no label at all.
        task_tokenizer: adds [CLS] and [SEP].
    """
    tokens, types = task_tokenizer.join_parts([question, ids])
    begin = 2 + len(question)
    origin = np.full((len(tokens), 2), -1, np.int32)
    origin[begin : begin + len(ids)] = offsets
    allowed = origin[:, 0] >= 0
    allowed[0] = True
    weights = np.ones(2, np.float32)
    return EncodedRow(
        example=number,
        tokens=tokens,
        segment_ids=np.ones_like(tokens),
        token_types=types,
        predict_positions=np.zeros(1, np.int32),
        prediction_weights=weights,
        label_weights=weights * has_label,
        labels=np.array((0, 0) if answer is None else (begin + answer[0], begin + answer[1]), np.int32),
        allowed_answers=np.stack([allowed, allowed]),
        origin=origin,
    )


def _find_best_span(logits: np.ndarray, in_paragraph: np.ndarray) -> tuple[float, int, int]:
    """Returns (logit, first, last) of the best span in the paragraph, among the best starts and ends.

    Args:
        logits: of starts and ends, [2 t].
        in_paragraph: True for tokens of the paragraph, [t].
    """
    inside = np.flatnonzero(in_paragraph)
    starts, ends = (inside[np.argsort(-logits[side][inside], kind="stable")[:NUM_CANDIDATES]] for side in (0, 1))
    is_valid = (ends[None] >= starts[:, None]) & (ends[None] < starts[:, None] + MAX_ANSWER_TOKENS)
    span_logits = np.where(is_valid, logits[0][starts][:, None] + logits[1][ends][None], -np.inf)
    if not len(inside) or not is_valid.any():
        return -np.inf, 0, 0
    i, j = np.unravel_index(int(span_logits.argmax()), span_logits.shape)
    return float(span_logits[i, j]), int(starts[i]), int(ends[j])
