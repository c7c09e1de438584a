"""Texts and pairs of texts: their class, several classes at once, or a number."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from distilbert_jax.data.tasks.examples import Example
from distilbert_jax.data.tasks.metrics import MetricFunction
from distilbert_jax.data.tasks.task_types.base import EncodedExamples, EncodedRow, TaskTokenizer, windows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification:
    """One question a text, asked at [CLS]. Without labels the answer is a number; with `several`, each label is a yes
    or no of its own.

    A text in windows is answered by the mean of their scores, and counts once in training.
    """

    labels: tuple[str, ...]
    metrics: tuple[MetricFunction, ...]
    multi_label: bool = False
    head: str = "sequence_classification"
    main_metric: str = "mean"

    @property
    def problem_type(self) -> str:
        if not self.labels:
            return "regression"
        return "multi_label_classification" if self.multi_label else "single_label_classification"

    def encode(self, examples: Sequence[Example], reading: TaskTokenizer) -> EncodedExamples:
        parts = len(examples[0].texts)
        ids = reading.ids([text for example in examples for text in example.texts])
        wide = self.multi_label or any(isinstance(example.label, tuple) for example in examples)
        rows: list[EncodedRow] = []
        cut_examples = cut_tokens = 0
        for number, example in enumerate(examples):
            mine = ids[number * parts : (number + 1) * parts]
            documents = [reading.shortened(mine)] if reading.window_overlap is None else _windows(mine, reading)
            if reading.window_overlap is None and (cut := sum(map(len, mine)) - sum(map(len, documents[0]))):
                cut_examples, cut_tokens = cut_examples + 1, cut_tokens + cut
            share = np.full(1, 1 / len(documents), np.float32)
            for document in documents:
                tokens, types = reading.document(document)
                rows.append(
                    EncodedRow(
                        example=number,
                        tokens=tokens,
                        segment_ids=np.ones_like(tokens),
                        token_types=types,
                        predict_positions=np.zeros(1, np.int32),
                        prediction_weights=share,
                        label_weights=share * (example.label is not None),
                        labels=self._label(example.label, wide=wide),
                    )
                )
        return EncodedExamples(rows=rows, cut_examples=cut_examples, cut_tokens=cut_tokens)

    def decode(
        self, examples: Sequence[Example], rows: Sequence[EncodedRow], scores: Sequence[np.ndarray]
    ) -> list[int | float | tuple[int, ...]]:
        total = np.zeros((len(examples), scores[0].shape[-1]))
        for row, z in zip(rows, scores, strict=True):
            total[row.example] += row.prediction_weights[0] * z[0]
        if not self.labels:
            return [float(z[0]) for z in total]
        if self.multi_label:
            return [tuple(int(value > 0) for value in z) for z in total]
        return [int(z.argmax()) for z in total]

    def per_example(self, examples: Sequence[Example], answers: Sequence[int | float | tuple[int, ...]]) -> np.ndarray:
        """[examples, labels then answers]. A label given as probabilities counts as the likeliest class."""
        wanted = [example.label for example in examples]
        if not self.multi_label:
            wanted = [int(np.argmax(label)) if isinstance(label, tuple) else label for label in wanted]
        return np.concatenate([np.array(side, float).reshape(len(examples), -1) for side in (wanted, answers)], axis=1)

    def compute_metrics(self, units: np.ndarray) -> dict[str, float]:
        half = units.shape[1] // 2
        labels, answers = units[:, :half], units[:, half:]
        if self.multi_label:
            labels, answers = labels > 0.5, answers > 0.5
        elif self.labels:
            labels, answers = labels.astype(int), answers.astype(int)
        flat = (labels, answers) if self.multi_label else (labels[:, 0], answers[:, 0])
        scores = {metric.__name__: 100 * metric(*flat) for metric in self.metrics}
        return scores | {"mean": sum(scores.values()) / len(scores)}

    def format_submission(
        self, examples: Sequence[Example], answers: Sequence[int | float | tuple[int, ...]]
    ) -> tuple[str, str]:
        """GLUE's: a header, then an id and an answer a line."""
        lines = [f"{example.id}\t{self._name(answer)}" for example, answer in zip(examples, answers, strict=True)]
        return ".tsv", "\n".join(["index\tprediction", *lines]) + "\n"

    def _label(self, label: int | float | tuple[float, ...] | None, *, wide: bool) -> np.ndarray:
        if not self.labels:
            return np.array([label or 0.0], np.float32)
        if not wide:
            return np.array([label or 0], np.int32)
        if isinstance(label, int | float):
            return np.eye(len(self.labels), dtype=np.float32)[[int(label)]]
        return np.array([label or np.zeros(len(self.labels))], np.float32)

    def _name(self, answer: int | float | tuple[int, ...]) -> str:
        if isinstance(answer, tuple):
            return "|".join(label for label, yes in zip(self.labels, answer, strict=True) if yes)
        return self.labels[int(answer)] if self.labels else f"{answer:.3f}"


def _windows(parts: Sequence[np.ndarray], reading: TaskTokenizer) -> list[list[np.ndarray]]:
    """Windows over the last text; one before it keeps at most half of the room."""
    room = reading.max_length - 1 - len(parts)
    first = [part[: room // 2] for part in parts[:-1]]
    room -= sum(map(len, first))
    assert reading.window_overlap is not None
    return [
        [*first, parts[-1][window]] for window in windows(len(parts[-1]), room=room, overlap=reading.window_overlap)
    ]
