"""Where a paragraph answers a question: its first and its last token."""

import dataclasses
import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from distilbert_jax.data.tasks import span_metrics
from distilbert_jax.data.tasks.examples import SpanQuestion
from distilbert_jax.data.tasks.task_types.base import EncodedExamples, EncodedRow, TaskTokenizer, windows

LONGEST_QUESTION = 64  # tokens
LONGEST_ANSWER = 30  # tokens
BEST = 20  # starts and ends that are looked at in each window
OVERLAP = 128  # tokens of the paragraph that neighbouring windows share; half a window where that is less


class PredictedSpan(NamedTuple):
    """The best span, and by how much [CLS] scores higher than it in the window that most speaks against an answer."""

    text: str
    margin: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpanExtraction:
    """Two questions a row, over its tokens. Only the paragraph and [CLS] may be answers: [CLS] says that the window
    does not hold the answer.

    A paragraph is always read in windows. `no_answer` allows "" (SQuAD v2.0): it is given where [CLS] scores higher
    than the best span by more than `threshold`. The scores then say which threshold were best on the examples at hand.
    """

    no_answer: bool = False
    threshold: float = 0.0
    head: str = "question_answering"
    main_metric: str = "f1"
    labels: tuple[str, ...] = ()
    problem_type: None = None

    def encode(self, examples: Sequence[SpanQuestion], reading: TaskTokenizer) -> EncodedExamples:
        questions = reading.ids([example.question for example in examples])
        contexts = reading.tokenizer.encode([e.context for e in examples], offsets=True)
        rows: list[EncodedRow] = []
        cut_examples = cut_tokens = 0
        for number, (example, question, context) in enumerate(zip(examples, questions, contexts, strict=True)):
            if cut := max(0, len(question) - LONGEST_QUESTION):
                cut_examples, cut_tokens = cut_examples + 1, cut_tokens + cut
            question = question[:LONGEST_QUESTION]
            ids, offsets = np.array(context.ids, np.int32), np.array(context.offsets, np.int32).reshape(-1, 2)
            answer = _tokens_of(example, offsets)
            room = reading.max_length - 3 - len(question)
            overlap = min(OVERLAP, room // 2) if reading.window_overlap is None else reading.window_overlap
            rows += [
                _row(
                    number,
                    question,
                    ids[window],
                    offsets[window],
                    answer=_within(answer, window),
                    known=example.has_label,
                    reading=reading,
                )
                for window in windows(len(ids), room=room, overlap=overlap)
            ]
        return EncodedExamples(rows=rows, cut_examples=cut_examples, cut_tokens=cut_tokens)

    def decode(
        self, examples: Sequence[SpanQuestion], rows: Sequence[EncodedRow], scores: Sequence[np.ndarray]
    ) -> list[PredictedSpan]:
        best = [(-np.inf, "")] * len(examples)
        nothing = np.full(len(examples), np.inf)
        for row, z in zip(rows, scores, strict=True):
            assert row.origin is not None
            nothing[row.example] = min(nothing[row.example], z[0, 0] + z[1, 0])
            score, start, end = _best_span(z, row.origin[:, 0] >= 0)
            if score > best[row.example][0]:
                text = examples[row.example].context[row.origin[start, 0] : row.origin[end, 1]]
                best[row.example] = (score, text)
        return [PredictedSpan(text, float(none - score)) for (score, text), none in zip(best, nothing, strict=True)]

    def per_example(self, examples: Sequence[SpanQuestion], answers: Sequence[PredictedSpan]) -> np.ndarray:
        """Those of SQuAD; where there may be no answer also the exact match and the F1 of each span, and its margin."""
        units = span_metrics.per_example(examples, self._said(examples, answers))
        if not self.no_answer:
            return units
        spans = span_metrics.per_example(
            examples, {e.id: found.text for e, found in zip(examples, answers, strict=True)}
        )
        return np.column_stack([units, spans[:, :2], [found.margin for found in answers]])

    def compute_metrics(self, units: np.ndarray) -> dict[str, float]:
        return span_metrics.compute_metrics(units[:, :3]) | (_best_threshold(units) if units.shape[1] > 3 else {})

    def format_submission(self, examples: Sequence[SpanQuestion], answers: Sequence[PredictedSpan]) -> tuple[str, str]:
        """SQuAD's: one JSON object, the answer of each id."""
        return ".json", json.dumps(self._said(examples, answers), ensure_ascii=False) + "\n"

    def _said(self, examples: Sequence[SpanQuestion], answers: Sequence[PredictedSpan]) -> dict[str, str]:
        pairs = zip(examples, answers, strict=True)
        silent = lambda found: self.no_answer and found.margin > self.threshold
        return {example.id: "" if silent(found) else found.text for example, found in pairs}


def _best_threshold(units: np.ndarray) -> dict[str, float]:
    """The F1 in per cent with the threshold that is best on these very questions, as the official scorer gives it, and
    the threshold: −∞ where it is best never to answer.
    """
    silent, spans, margins = 1 - units[:, 2], units[:, 4], units[:, 5]
    order = np.argsort(margins, kind="stable")
    totals = silent.sum() + np.concatenate([[0.0], np.cumsum((spans - silent)[order])])
    thresholds = np.concatenate([[-np.inf], margins[order]])
    between_equals = np.append(thresholds[1:] == thresholds[:-1], False)  # no threshold tells these apart
    best = int(np.where(between_equals, -np.inf, totals).argmax())
    return {"best_f1": 100 * totals[best] / len(units), "threshold_of_best_f1": float(thresholds[best])}


def _tokens_of(example: SpanQuestion, offsets: np.ndarray) -> tuple[int, int] | None:
    """(first, last) token of the first answer people gave."""
    if not example.answers:
        return None
    start, end = example.answer_starts[0], example.answer_starts[0] + len(example.answers[0])
    inside = np.flatnonzero((offsets[:, 1] > start) & (offsets[:, 0] < end))
    return (int(inside[0]), int(inside[-1])) if len(inside) else None


def _within(answer: tuple[int, int] | None, window: slice) -> tuple[int, int] | None:
    """The answer counted from the window's start; None where the window does not hold all of it."""
    if answer is None or answer[0] < window.start or answer[1] >= window.stop:
        return None
    return answer[0] - window.start, answer[1] - window.start


def _row(
    number: int,
    question: np.ndarray,
    ids: np.ndarray,
    offsets: np.ndarray,
    *,
    answer: tuple[int, int] | None,
    known: bool,
    reading: TaskTokenizer,
) -> EncodedRow:
    tokens, types = reading.document([question, ids])
    begin = 2 + len(question)
    origin = np.full((len(tokens), 2), -1, np.int32)
    origin[begin : begin + len(ids)] = offsets
    allowed = origin[:, 0] >= 0
    allowed[0] = True
    both = np.ones(2, np.float32)
    return EncodedRow(
        example=number,
        tokens=tokens,
        segment_ids=np.ones_like(tokens),
        token_types=types,
        predict_positions=np.zeros(1, np.int32),
        prediction_weights=both,
        label_weights=both * known,
        labels=np.array((0, 0) if answer is None else (begin + answer[0], begin + answer[1]), np.int32),
        allowed_answers=np.stack([allowed, allowed]),
        origin=origin,
    )


def _best_span(z: np.ndarray, context: np.ndarray) -> tuple[float, int, int]:
    """(score, first, last) of the best span in the paragraph, among the best starts and ends."""
    inside = np.flatnonzero(context)
    starts, ends = (inside[np.argsort(-z[side][inside], kind="stable")[:BEST]] for side in (0, 1))
    fits = (ends[None] >= starts[:, None]) & (ends[None] < starts[:, None] + LONGEST_ANSWER)
    scores = np.where(fits, z[0][starts][:, None] + z[1][ends][None], -np.inf)
    if not len(inside) or not fits.any():
        return -np.inf, 0, 0
    i, j = np.unravel_index(int(scores.argmax()), scores.shape)
    return float(scores[i, j]), int(starts[i]), int(ends[j])
