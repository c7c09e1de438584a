"""The form of a task: how its examples become rows of questions, and scores become answers. Classes, tags, spans and
choices are the four there are.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from distilbert_jax.data.tokenizer.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodedRow:
    """One row of tokens and what is asked of it, as `types.Batch` has it but ragged."""

    example: int  # which one it was made of; a long one may have made several rows
    tokens: np.ndarray  # [t]
    segment_ids: np.ndarray  # [t]
    token_types: np.ndarray  # [t]
    predict_positions: np.ndarray  # [n]
    prediction_weights: np.ndarray  # [p]
    label_weights: np.ndarray  # [p]
    labels: np.ndarray  # [p] or [p v]
    allowed_answers: np.ndarray | None = None  # [p v]
    origin: np.ndarray | None = None  # where in the example the tokens come from, for the form that made the row


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodedExamples:
    """The rows of some examples, and what did not fit."""

    rows: list[EncodedRow]
    cut_examples: int = 0
    cut_tokens: int = 0

    def format_truncation(self) -> str:
        """What a user should know of the rows."""
        tokens = sum(len(row.tokens) for row in self.rows)
        cut = f"; {self.cut_tokens:,} tokens of {self.cut_examples:,} examples cut off" if self.cut_tokens else ""
        return f"{len(self.rows):,} rows, {tokens:,} tokens{cut}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskTokenizer:
    """How text becomes tokens: at most `max_length` a document; what is longer is cut, or read in windows that share
    `overlap` tokens.
    """

    tokenizer: Tokenizer
    max_length: int
    window_overlap: int | None = None  # cut, where it is left out

    def ids(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Each text's tokens, without [CLS] and [SEP]."""
        return [np.array(one.ids, np.int32) for one in self.tokenizer.encode(texts)]

    def document(self, parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """(tokens, token types): [CLS], then each part with a [SEP] after it, the second part of type 1."""
        tokens, types = [np.array([self.tokenizer.cls_id], np.int32)], [np.zeros(1, np.int32)]
        for number, part in enumerate(parts):
            tokens += [part, np.array([self.tokenizer.sep_id], np.int32)]
            types.append(np.full(len(part) + 1, number, np.int32))
        return np.concatenate(tokens), np.concatenate(types)

    def shortened(self, parts: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The parts cut at their ends to fit one document, the longest first."""
        room, kept = self.max_length - 1 - len(parts), np.zeros(len(parts), int)
        shortest_first = np.argsort([len(part) for part in parts], kind="stable").tolist()
        for done, i in enumerate(shortest_first):
            kept[i] = min(len(parts[i]), room // (len(parts) - done))
            room -= kept[i]
        return [part[:length] for part, length in zip(parts, kept, strict=True)]


def windows(length: int, *, room: int, overlap: int) -> Iterator[slice]:
    """Slices of a text of `length` tokens, each of at most `room`; neighbours share `overlap`."""
    if overlap >= room:
        raise ValueError(f"windows of {room} tokens cannot share {overlap}: raise max_length, or lower windows")
    start = 0
    while True:
        yield slice(start, min(start + room, length))
        if start + room >= length:
            return
        start += room - overlap


@runtime_checkable
class TaskType(Protocol):
    """What the four forms have in common."""

    @property
    def head(self) -> str:
        """The file in `heads/` that answers such questions."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of classes or tags, by number; none where answers have no names."""

    @property
    def problem_type(self) -> str | None:
        """Of sequence classification, in the Hub's words."""

    @property
    def main_metric(self) -> str:
        """The score that stands in tables: the mean of several where the benchmark takes one."""

    def encode(self, examples: Sequence[Any], reading: TaskTokenizer) -> EncodedExamples:
        """The examples as rows."""

    def decode(self, examples: Sequence[Any], rows: Sequence[EncodedRow], scores: Sequence[np.ndarray]) -> list[Any]:
        """One answer an example from the scores [p v] of each row."""

    def per_example(self, examples: Sequence[Any], answers: Sequence[Any]) -> np.ndarray:
        """[examples, …] numbers, all that `measure` needs of each example: so that a bootstrap can draw examples."""

    def compute_metrics(self, units: np.ndarray) -> dict[str, float]:
        """Every score of the task, in per cent, the headline among them."""

    def format_submission(self, examples: Sequence[Any], answers: Sequence[Any]) -> tuple[str, str]:
        """(suffix, text) of the answers as a file in the task's own format."""
