"""A tag for each word, asked at its first piece."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from distilbert_jax.data.tasks import entity_metrics
from distilbert_jax.data.tasks.examples import TaggedSentence
from distilbert_jax.data.tasks.task_types.base import EncodedExamples, EncodedRow, TaskTokenizer, windows

OUTSIDE = "O"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tagging:
    """As many questions as tokens, real ones at the first piece of each word: the other pieces take no part.

    Of a sentence in windows, each word is answered where it stands farthest from an edge. A word that was cut off, or
    has no piece, is outside of every entity.
    """

    labels: tuple[str, ...]
    head: str = "token_classification"
    main_metric: str = "f1"
    problem_type: None = None

    def encode(self, examples: Sequence[TaggedSentence], reading: TaskTokenizer) -> EncodedExamples:
        encoded = reading.tokenizer.encode([list(example.words) for example in examples], offsets=True, words=True)
        rows: list[EncodedRow] = []
        cut_examples = cut_tokens = 0
        for number, (example, one) in enumerate(zip(examples, encoded, strict=True)):
            ids, words = np.array(one.ids, np.int32), np.array(one.word_ids, np.int32)
            slices = list(windows(len(ids), room=reading.max_length - 2, overlap=reading.window_overlap or 0))
            if reading.window_overlap is None and len(slices) > 1:
                cut_examples, cut_tokens = cut_examples + 1, cut_tokens + len(ids) - slices[0].stop
                slices = slices[:1]
            first = np.diff(words, prepend=-1) != 0
            rows += [self._row(number, example, ids, np.where(first, words, -1), window, reading) for window in slices]
        return EncodedExamples(rows=rows, cut_examples=cut_examples, cut_tokens=cut_tokens)

    def decode(
        self, examples: Sequence[TaggedSentence], rows: Sequence[EncodedRow], scores: Sequence[np.ndarray]
    ) -> list[list[str]]:
        answers = [[OUTSIDE] * len(example.words) for example in examples]
        margins = [[-1] * len(example.words) for example in examples]
        for row, z in zip(rows, scores, strict=True):
            assert row.origin is not None
            best = z.argmax(-1)
            for at in np.flatnonzero(row.origin >= 0).tolist():
                word, margin = int(row.origin[at]), min(at, len(row.tokens) - 1 - at)
                if margin > margins[row.example][word]:
                    margins[row.example][word] = margin
                    answers[row.example][word] = self.labels[best[at]]
        return answers

    def per_example(self, examples: Sequence[TaggedSentence], answers: Sequence[Sequence[str]]) -> np.ndarray:
        return entity_metrics.per_example(examples, answers)

    def compute_metrics(self, units: np.ndarray) -> dict[str, float]:
        return entity_metrics.compute_metrics(units)

    def format_submission(
        self, examples: Sequence[TaggedSentence], answers: Sequence[Sequence[str]]
    ) -> tuple[str, str]:
        """CoNLL's: a word, its tag where it is known, and the answer a line."""
        columns = [
            (one.words, *([one.tags] if one.tags else []), tags) for one, tags in zip(examples, answers, strict=True)
        ]
        blocks = ["".join("\t".join(line) + "\n" for line in zip(*of_one, strict=True)) for of_one in columns]
        return ".conll", "\n".join(blocks)

    def _row(
        self,
        number: int,
        example: TaggedSentence,
        ids: np.ndarray,
        words: np.ndarray,
        window: slice,
        reading: TaskTokenizer,
    ) -> EncodedRow:
        """`words` has the number of the word at its first piece, and −1 elsewhere."""
        tokens, types = reading.document([ids[window]])
        origin = np.concatenate([[-1], words[window], [-1]])
        real = (origin >= 0).astype(np.float32)
        unknown = sorted(set(example.tags) - set(self.labels))
        if unknown:
            raise ValueError(f"sentence {number + 1}: the tag {unknown[0]!r} is none of {', '.join(self.labels)}")
        known = bool(example.tags)
        tags = [self.labels.index(example.tags[word]) if word >= 0 and known else 0 for word in origin.tolist()]
        return EncodedRow(
            example=number,
            tokens=tokens,
            segment_ids=np.ones_like(tokens),
            token_types=types,
            predict_positions=np.arange(len(tokens), dtype=np.int32),
            prediction_weights=real,
            label_weights=real * known,
            labels=np.array(tags, np.int32),
            origin=origin,
        )
