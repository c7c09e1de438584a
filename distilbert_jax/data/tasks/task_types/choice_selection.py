"""Which of several choices goes on best: all choices of a question are packed into one row."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from distilbert_jax.data.tasks import metrics
from distilbert_jax.data.tasks.examples import ChoiceQuestion
from distilbert_jax.data.tasks.task_types.base import Encoded, Reading, Row


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choices:
    """One question a row; each choice is a document of its own, looked at in its [CLS]. Long ones are cut."""

    head: str = "multiple_choice"
    headline: str = "accuracy"
    labels: tuple[str, ...] = ()
    problem_type: None = None

    def rows(self, examples: Sequence[ChoiceQuestion], reading: Reading) -> Encoded:
        ids = iter(reading.ids([text for example in examples for text in (example.first, *example.choices)]))
        rows: list[Row] = []
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
                Row(
                    example=number,
                    tokens=np.concatenate([tokens for tokens, _ in documents]),
                    segments=np.repeat(np.arange(1, len(documents) + 1, dtype=np.int32), lengths),
                    token_types=np.concatenate([types for _, types in documents]),
                    predict_at=np.cumsum([0, *lengths[:-1]], dtype=np.int32),
                    asked=known,
                    weights=known * (example.label is not None),
                    labels=np.array([example.label or 0], np.int32),
                )
            )
        return Encoded(rows=rows, cut_examples=cut_examples, cut_tokens=cut_tokens)

    def answers(
        self, examples: Sequence[ChoiceQuestion], rows: Sequence[Row], scores: Sequence[np.ndarray]
    ) -> list[int]:
        return [int(z[0].argmax()) for z in scores]

    def units(self, examples: Sequence[ChoiceQuestion], answers: Sequence[int]) -> np.ndarray:
        """[examples, label and answer]."""
        return np.array([(example.label, answer) for example, answer in zip(examples, answers, strict=True)], float)

    def measure(self, units: np.ndarray) -> dict[str, float]:
        return {"accuracy": 100 * metrics.accuracy(*units.T.astype(int))}

    def submission(self, examples: Sequence[ChoiceQuestion], answers: Sequence[int]) -> tuple[str, str]:
        """The number of a choice a line."""
        return ".lst", "".join(f"{answer}\n" for answer in answers)


def _tokens(documents: Sequence[Sequence[np.ndarray]]) -> int:
    return sum(len(part) for parts in documents for part in parts)
