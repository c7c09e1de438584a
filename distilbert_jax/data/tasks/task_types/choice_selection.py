"""Choice selection: which of several choices continues a text best."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from distilbert_jax.data.tasks import metrics
from distilbert_jax.data.tasks.examples import ChoiceQuestion
from distilbert_jax.data.tasks.task_types.base import EncodedExamples, EncodedRow, TaskTokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChoiceSelection:
    """The task type of multiple choice.

    A question is one row and one prediction. Its choices are packed into this row, each as a document of its own that
    the head scores at its [CLS]. Texts that are too long are cut.
    """

    head: str = "multiple_choice"
    main_metric: str = "accuracy"
    labels: tuple[str, ...] = ()
    problem_type: None = None

    def encode(self, examples: Sequence[ChoiceQuestion], task_tokenizer: TaskTokenizer) -> EncodedExamples:
        """Returns one row for each question; a row is as long as all its documents together."""
        ids = iter(
            task_tokenizer.encode_texts([text for example in examples for text in (example.first, *example.choices)])
        )
        rows: list[EncodedRow] = []
        cut_examples = cut_tokens = 0
        for number, example in enumerate(examples):
            first = next(ids)
            pairs = [(first, next(ids)) for _ in example.choices]
            truncated = [task_tokenizer.truncate(pair) for pair in pairs]
            if cut := _count_tokens(pairs) - _count_tokens(truncated):
                cut_examples, cut_tokens = cut_examples + 1, cut_tokens + cut
            documents = [task_tokenizer.join_parts(pair) for pair in truncated]
            lengths = [len(tokens) for tokens, _ in documents]
            weight = np.ones(1, np.float32)
            rows.append(
                EncodedRow(
                    example=number,
                    tokens=np.concatenate([tokens for tokens, _ in documents]),
                    segment_ids=np.repeat(np.arange(1, len(documents) + 1, dtype=np.int32), lengths),
                    token_types=np.concatenate([types for _, types in documents]),
                    predict_positions=np.cumsum([0, *lengths[:-1]], dtype=np.int32),
                    prediction_weights=weight,
                    label_weights=weight * (example.label is not None),
                    labels=np.array([example.label or 0], np.int32),
                )
            )
        return EncodedExamples(rows=rows, cut_examples=cut_examples, cut_tokens=cut_tokens)

    def decode(
        self, examples: Sequence[ChoiceQuestion], rows: Sequence[EncodedRow], logits: Sequence[np.ndarray]
    ) -> list[int]:
        """Returns the number of the choice with the highest logit for each question."""
        return [int(row_logits[0].argmax()) for row_logits in logits]

    def per_example(self, examples: Sequence[ChoiceQuestion], answers: Sequence[int]) -> np.ndarray:
        """Returns [examples, 2]: label and answer."""
        return np.array([(example.label, answer) for example, answer in zip(examples, answers, strict=True)], float)

    def compute_metrics(self, per_example: np.ndarray) -> dict[str, float]:
        """Returns the accuracy in per cent."""
        return {"accuracy": 100 * metrics.accuracy(*per_example.T.astype(int))}

    def format_submission(self, examples: Sequence[ChoiceQuestion], answers: Sequence[int]) -> tuple[str, str]:
        """Returns a file with the number of the chosen ending on each line, as PIQA's label files have it."""
        return ".lst", "".join(f"{answer}\n" for answer in answers)


def _count_tokens(documents: Sequence[Sequence[np.ndarray]]) -> int:
    """Counts the tokens of all parts of all documents."""
    return sum(len(part) for parts in documents for part in parts)
