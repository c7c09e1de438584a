"""The interface of task types: how examples become token rows, and how logits become answers and metrics.

There are four task types: classification, tagging, span extraction and choice selection.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from distilbert_jax.data.tokenizer.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodedRow:
    """One row of tokens and its predictions, with the fields of `types.Batch` but without padding.

    t is the number of tokens, n of positions the model answers at, p of predictions and v of possible answers.
    """

    example: int  # index of the example; a long example may have several rows
    tokens: np.ndarray  # [t]
    segment_ids: np.ndarray  # [t]
    token_types: np.ndarray  # [t]
    predict_positions: np.ndarray  # [n]
    prediction_weights: np.ndarray  # [p]
    label_weights: np.ndarray  # [p]
    labels: np.ndarray  # [p] or [p v]
    allowed_answers: np.ndarray | None = None  # [p v]
    origin: np.ndarray | None = None  # where in the example each token comes from; the task type defines its meaning


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodedExamples:
    """The rows of a list of examples, and how much text was cut off."""

    rows: list[EncodedRow]
    cut_examples: int = 0  # examples that lost tokens
    cut_tokens: int = 0  # tokens lost in all of them

    def format_truncation(self) -> str:
        """Returns the number of rows and tokens, and of the tokens cut off, as text for the console."""
        tokens = sum(len(row.tokens) for row in self.rows)
        cut = f"; {self.cut_tokens:,} tokens of {self.cut_examples:,} examples cut off" if self.cut_tokens else ""
        return f"{len(self.rows):,} rows, {tokens:,} tokens{cut}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskTokenizer:
    """A tokenizer with the rules for texts that are too long for one document.

    Attributes:
        tokenizer: the model's tokenizer.
        max_length: the most tokens of a document, [CLS] and [SEP] included.
        window_overlap: tokens that neighbouring windows of a long text share. None cuts long texts instead.
    """

    tokenizer: Tokenizer
    max_length: int
    window_overlap: int | None = None

    def encode_texts(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Returns the token ids of each text, without [CLS] and [SEP]."""
        return [np.array(encoding.ids, np.int32) for encoding in self.tokenizer.encode(texts)]

    def join_parts(self, parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Joins the token ids of one text or a pair into a document: [CLS] part [SEP], or [CLS] part [SEP] part [SEP].

        Returns:
            (token ids [t], token types [t]); the second part has type 1.
        """
        tokens, types = [np.array([self.tokenizer.cls_id], np.int32)], [np.zeros(1, np.int32)]
        for number, part in enumerate(parts):
            tokens += [part, np.array([self.tokenizer.sep_id], np.int32)]
            types.append(np.full(len(part) + 1, number, np.int32))
        return np.concatenate(tokens), np.concatenate(types)

    def truncate(self, parts: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Returns the parts cut at their ends so that they fit one document; the longest part is cut first."""
        room, kept = self.max_length - 1 - len(parts), np.zeros(len(parts), int)
        shortest_first = np.argsort([len(part) for part in parts], kind="stable").tolist()
        # Each part may use an equal share of the room; what a short part does not need is left for the longer ones.
        for done, i in enumerate(shortest_first):
            kept[i] = min(len(parts[i]), room // (len(parts) - done))
            room -= kept[i]
        return [part[:length] for part, length in zip(parts, kept, strict=True)]


def iter_windows(length: int, *, room: int, overlap: int) -> Iterator[slice]:
    """Yields slices that together cover a text; neighbours share `overlap` tokens.

    Args:
        length: tokens of the text.
        room: the most tokens of a window.
        overlap: tokens that neighbouring windows share.

    Raises:
        ValueError: `overlap` is not smaller than `room`.
    """
    if overlap >= room:
        smaller_overlap = f"a smaller window_overlap (below {room}) or " if room > 0 else ""
        raise ValueError(
            f"a window has only {max(room, 0)} tokens left for the text, but window_overlap is {overlap}; choose "
            f"{smaller_overlap}a larger max_length"
        )
    start = 0
    while True:
        yield slice(start, min(start + room, length))
        if start + room >= length:
            return
        start += room - overlap


@runtime_checkable
class TaskType(Protocol):
    """The interface of the four task types. The type of an example and of an answer depends on the task type."""

    @property
    def head(self) -> str:
        """The name of the head in `heads/` that makes these predictions."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes or tags in the order of their numbers; empty if answers have no names."""

    @property
    def problem_type(self) -> str | None:
        """The `problem_type` of the Hub's config.json for sequence classification; None for other heads."""

    @property
    def main_metric(self) -> str:
        """The metric that tables show: the mean of several if the benchmark defines it so."""

    def encode(self, examples: Sequence[Any], task_tokenizer: TaskTokenizer) -> EncodedExamples:
        """Returns the examples as rows of tokens."""

    def decode(self, examples: Sequence[Any], rows: Sequence[EncodedRow], logits: Sequence[np.ndarray]) -> list[Any]:
        """Returns one answer for each example.

        Args:
            examples: the examples that were encoded.
            rows: their rows.
            logits: raw model output for each row, [p v].
        """

    def per_example(self, examples: Sequence[Any], answers: Sequence[Any]) -> np.ndarray:
        """Returns [examples, …]: the numbers `compute_metrics` needs, so that a bootstrap can resample examples."""

    def compute_metrics(self, per_example: np.ndarray) -> dict[str, float]:
        """Returns every metric of the task in per cent, including the main metric, from what `per_example` returned."""

    def format_submission(self, examples: Sequence[Any], answers: Sequence[Any]) -> tuple[str, str]:
        """Returns (file suffix, content) of a predictions file in the format that the task's own scorer reads."""


def format_main_metric(task_type: TaskType) -> str:
    """Returns the name of the main metric for tables; for a mean, the names of the metrics that it is the mean of."""
    names = [metric.__name__ for metric in getattr(task_type, "metrics", ())]
    if task_type.main_metric != "mean":
        return task_type.main_metric
    return names[0] if len(names) == 1 else f"mean of {' and '.join(names)}"
