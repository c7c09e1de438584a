"""Classification and regression of texts and pairs of texts: one class, several classes, or a number."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from distilbert_jax.data.tasks.examples import Example
from distilbert_jax.data.tasks.metrics import MetricFunction
from distilbert_jax.data.tasks.task_types.base import EncodedExamples, EncodedRow, TaskTokenizer, iter_windows

NONE_OF_THE_LABELS = "|"
"""How a multi-label file says that none of the labels applies. `a|b` are two labels; an empty cell is not known."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification:
    """The task type of sequence classification: one prediction for each text, made at [CLS].

    A text in several windows is answered by the mean of their logits. In training its windows share a weight of 1, and
    it counts as much in an epoch as a text in one window.

    Attributes:
        labels: the names of the classes. If there are none, the answer is a number (regression).
        metrics: the functions that compute the task's metrics.
        multi_label: True if each class is a yes-or-no answer of its own.
        head: the head that makes the predictions.
        main_metric: the name of one of `metrics`, or "mean" for their mean.
    """

    labels: tuple[str, ...]
    metrics: tuple[MetricFunction, ...]
    multi_label: bool = False
    head: str = "sequence_classification"
    main_metric: str = "mean"

    @property
    def problem_type(self) -> str:
        """The `problem_type` of the Hub's config.json."""
        if not self.labels:
            return "regression"
        return "multi_label_classification" if self.multi_label else "single_label_classification"

    def encode(self, examples: Sequence[Example], task_tokenizer: TaskTokenizer) -> EncodedExamples:
        """Returns one row for each text, or for each window of a long text."""
        ids = iter(task_tokenizer.encode_texts([text for example in examples for text in example.texts]))
        # One label given as probabilities makes all labels of the split vectors, because a batch has one shape.
        as_vectors = self.multi_label or any(isinstance(example.label, tuple) for example in examples)
        rows: list[EncodedRow] = []
        cut_examples = cut_tokens = 0
        for number, example in enumerate(examples):
            parts = [next(ids) for _ in example.texts]
            if task_tokenizer.window_overlap is None:
                documents = [task_tokenizer.truncate(parts)]
                if cut := sum(map(len, parts)) - sum(map(len, documents[0])):
                    cut_examples, cut_tokens = cut_examples + 1, cut_tokens + cut
            else:
                documents = _split_into_windows(parts, task_tokenizer)
            weight = np.full(1, 1 / len(documents), np.float32)
            for document in documents:
                tokens, types = task_tokenizer.join_parts(document)
                rows.append(
                    EncodedRow(
                        example=number,
                        tokens=tokens,
                        segment_ids=np.ones_like(tokens),
                        token_types=types,
                        predict_positions=np.zeros(1, np.int32),
                        prediction_weights=weight,
                        label_weights=weight * (example.label is not None),
                        labels=self._encode_label(example.label, as_vector=as_vectors),
                    )
                )
        return EncodedExamples(rows=rows, cut_examples=cut_examples, cut_tokens=cut_tokens)

    def decode(
        self, examples: Sequence[Example], rows: Sequence[EncodedRow], logits: Sequence[np.ndarray]
    ) -> list[int | float | tuple[int, ...]]:
        """Returns for each example the number of its class, a 0 or 1 for each class (multi-label), or a number."""
        mean_logits = np.zeros((len(examples), logits[0].shape[-1]))
        for row, row_logits in zip(rows, logits, strict=True):
            mean_logits[row.example] += row.prediction_weights[0] * row_logits[0]
        if not self.labels:
            return [float(z[0]) for z in mean_logits]
        if self.multi_label:
            return [tuple(int(value > 0) for value in z) for z in mean_logits]
        return [int(z.argmax()) for z in mean_logits]

    def per_example(self, examples: Sequence[Example], answers: Sequence[int | float | tuple[int, ...]]) -> np.ndarray:
        """Returns [examples, labels then answers]. A label given as probabilities counts as the most probable class."""
        labels = [example.label for example in examples]
        if not self.multi_label:
            labels = [int(np.argmax(label)) if isinstance(label, tuple) else label for label in labels]
        columns = [np.array(values, float).reshape(len(examples), -1) for values in (labels, answers)]
        return np.concatenate(columns, axis=1)

    def compute_metrics(self, per_example: np.ndarray) -> dict[str, float]:
        """Returns each metric and their mean, in per cent."""
        half = per_example.shape[1] // 2
        labels, answers = per_example[:, :half], per_example[:, half:]
        if self.multi_label:
            labels, answers = labels > 0.5, answers > 0.5
        elif self.labels:
            labels, answers = labels.astype(int), answers.astype(int)
        arguments = (labels, answers) if self.multi_label else (labels[:, 0], answers[:, 0])
        values = {metric.__name__: 100 * metric(*arguments) for metric in self.metrics}
        return values | {"mean": sum(values.values()) / len(values)}

    def format_submission(
        self, examples: Sequence[Example], answers: Sequence[int | float | tuple[int, ...]]
    ) -> tuple[str, str]:
        """Returns a file in GLUE's format: a header, then an id and an answer on each line, separated by a tab."""
        lines = [
            f"{example.id}\t{self._format_answer(answer)}" for example, answer in zip(examples, answers, strict=True)
        ]
        return ".tsv", "\n".join(["index\tprediction", *lines]) + "\n"

    def _encode_label(self, label: int | float | tuple[float, ...] | None, *, as_vector: bool) -> np.ndarray:
        """Returns a label as [1], or as [1 v] if `as_vector`; zeros if it is not known."""
        if not self.labels:
            return np.array([label or 0.0], np.float32)
        if not as_vector:
            return np.array([label or 0], np.int32)
        if isinstance(label, int | float):
            return np.eye(len(self.labels), dtype=np.float32)[[int(label)]]
        return np.array([label or np.zeros(len(self.labels))], np.float32)

    def _format_answer(self, answer: int | float | tuple[int, ...]) -> str:
        """Returns the names of the classes, separated by |, or a number with three decimals."""
        if isinstance(answer, tuple):
            names = [label for label, is_true in zip(self.labels, answer, strict=True) if is_true]
            return "|".join(names) or NONE_OF_THE_LABELS
        return self.labels[int(answer)] if self.labels else f"{answer:.3f}"


def _split_into_windows(parts: Sequence[np.ndarray], task_tokenizer: TaskTokenizer) -> list[list[np.ndarray]]:
    """Splits the last text into windows. A text before it is repeated in each, cut to half of the room."""
    room = task_tokenizer.max_length - 1 - len(parts)
    first = [part[: room // 2] for part in parts[:-1]]
    room -= sum(map(len, first))
    assert task_tokenizer.window_overlap is not None
    windows = iter_windows(len(parts[-1]), room=room, overlap=task_tokenizer.window_overlap)
    return [[*first, parts[-1][window]] for window in windows]
