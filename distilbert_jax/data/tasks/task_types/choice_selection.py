"""Which of several choices goes on best: all choices of a question are packed into one row."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from distilbert_jax.data.tasks import metrics
from distilbert_jax.data.tasks.examples import ChoiceQuestion
from distilbert_jax.data.tasks.task_types.base import EncodedExamples, EncodedRow, TaskTokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChoiceSelection:
    """One question a row; each choice is a document of its own, looked at in its [CLS]. Long ones are cut."""

    head: str = "multiple_choice"
    main_metric: str = "accuracy"
    labels: tuple[str, ...] = ()
    problem_type: None = None

    def encode(self, examples: Sequence[ChoiceQuestion], reading: TaskTokenizer) -> EncodedExamples:
        ids = iter(reading.ids([text for example in examples for text in (example.first, *example.choices)]))
        rows: list[EncodedRow] = []
        cut_examples = cut_tokens = 0
        for number, example in enumerate(examples):
            first = next(ids)
            pairs = [(first, next(ids)) for _ in example.choices]
            fitting = [reading.shortened(pair) for pair in pairs]
            if cut := _tokens(pairs) - _tokens(fitting):
                cut_examples, cut_tokens = cut_examples + 1, cut_tokens + cut
            documents = [reading.document(pair) for pair in fitting]
            lengths = [len(tokens) for tokens, _ in documents]
            known = np.ones(1, np.float32)
            rows.append(
                EncodedRow(
                    example=number,
                    tokens=np.concatenate([tokens for tokens, _ in documents]),
                    segment_ids=np.repeat(np.arange(1, len(documents) + 1, dtype=np.int32), lengths),
                    token_types=np.concatenate([types for _, types in documents]),
                    predict_positions=np.cumsum([0, *lengths[:-1]], dtype=np.int32),
                    prediction_weights=known,
                    label_weights=known * (example.label is not None),
                    labels=np.array([example.label or 0], np.int32),
                )
            )
        return EncodedExamples(rows=rows, cut_examples=cut_examples, cut_tokens=cut_tokens)

    def decode(
        self, examples: Sequence[ChoiceQuestion], rows: Sequence[EncodedRow], scores: Sequence[np.ndarray]
    ) -> list[int]:
        return [int(z[0].argmax()) for z in scores]

    def per_example(self, examples: Sequence[ChoiceQuestion], answers: Sequence[int]) -> np.ndarray:
        """[examples, label and answer]."""
        return np.array([(example.label, answer) for example, answer in zip(examples, answers, strict=True)], float)

    def compute_metrics(self, units: np.ndarray) -> dict[str, float]:
        return {"accuracy": 100 * metrics.accuracy(*units.T.astype(int))}

    def format_submission(self, examples: Sequence[ChoiceQuestion], answers: Sequence[int]) -> tuple[str, str]:
        """The number of a choice a line."""
        return ".lst", "".join(f"{answer}\n" for answer in answers)


def _tokens(documents: Sequence[Sequence[np.ndarray]]) -> int:
    return sum(len(part) for parts in documents for part in parts)
