"""Tagging: one tag for each word, predicted at the first token of the word."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from distilbert_jax.data.tasks import entity_metrics
from distilbert_jax.data.tasks.examples import TaggedSentence
from distilbert_jax.data.tasks.task_types.base import EncodedExamples, EncodedRow, TaskTokenizer, iter_windows

OUTSIDE_TAG = "O"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tagging:
    """The task type of token classification.

    A row has as many predictions as tokens. Those at the first token of a word have weight 1, all others 0.

    If a sentence is read in several windows, each word takes its tag from the window where it is farthest from an
    edge. A word that was cut off or has no token gets the tag O.

    Attributes:
        labels: the names of the tags.
        head: the head that makes the predictions.
        main_metric: F1 over entities.
        problem_type: None, because only sequence classification has one.
    """

    labels: tuple[str, ...]
    head: str = "token_classification"
    main_metric: str = "f1"
    problem_type: None = None

    def encode(self, examples: Sequence[TaggedSentence], task_tokenizer: TaskTokenizer) -> EncodedExamples:
        """Returns one row for each sentence, or for each window of a long sentence.

        Raises:
            ValueError: a sentence has a tag that is not one of `labels`.
        """
        encodings = task_tokenizer.tokenizer.encode(
            [list(example.words) for example in examples], offsets=True, words=True
        )
        rows: list[EncodedRow] = []
        cut_examples = cut_tokens = 0
        for number, (example, encoding) in enumerate(zip(examples, encodings, strict=True)):
            ids, word_ids = np.array(encoding.ids, np.int32), np.array(encoding.word_ids, np.int32)
            windows = list(
                iter_windows(len(ids), room=task_tokenizer.max_length - 2, overlap=task_tokenizer.window_overlap or 0)
            )
            if task_tokenizer.window_overlap is None and len(windows) > 1:
                cut_examples, cut_tokens = cut_examples + 1, cut_tokens + len(ids) - windows[0].stop
                windows = windows[:1]
            is_first = np.diff(word_ids, prepend=-1) != 0
            first_word_ids = np.where(is_first, word_ids, -1)
            rows += [
                self._encode_window(number, example, ids[window], first_word_ids[window], task_tokenizer)
                for window in windows
            ]
        return EncodedExamples(rows=rows, cut_examples=cut_examples, cut_tokens=cut_tokens)

    def decode(
        self, examples: Sequence[TaggedSentence], rows: Sequence[EncodedRow], logits: Sequence[np.ndarray]
    ) -> list[list[str]]:
        """Returns one tag for each word of each sentence."""
        answers = [[OUTSIDE_TAG] * len(example.words) for example in examples]
        margins = [[-1] * len(example.words) for example in examples]
        for row, row_logits in zip(rows, logits, strict=True):
            assert row.origin is not None
            best = row_logits.argmax(-1)
            for position in np.flatnonzero(row.origin >= 0).tolist():
                word, margin = int(row.origin[position]), min(position, len(row.tokens) - 1 - position)
                if margin > margins[row.example][word]:
                    margins[row.example][word] = margin
                    answers[row.example][word] = self.labels[best[position]]
        return answers

    def per_example(self, examples: Sequence[TaggedSentence], answers: Sequence[Sequence[str]]) -> np.ndarray:
        """Returns [sentences, 3]: the entities that are correct, predicted and annotated."""
        return entity_metrics.per_example(examples, answers)

    def compute_metrics(self, per_example: np.ndarray) -> dict[str, float]:
        """Returns precision, recall and F1 over entities, in per cent."""
        return entity_metrics.compute_metrics(per_example)

    def format_submission(
        self, examples: Sequence[TaggedSentence], answers: Sequence[Sequence[str]]
    ) -> tuple[str, str]:
        """Returns a file in CoNLL's format: a word, its tag if it is known, and the predicted tag on each line."""
        sentences = [
            (example.words, *([example.tags] if example.tags else []), tags)
            for example, tags in zip(examples, answers, strict=True)
        ]
        blocks = ["".join("\t".join(line) + "\n" for line in zip(*sentence, strict=True)) for sentence in sentences]
        return ".conll", "\n".join(blocks)

    def _encode_window(
        self,
        number: int,
        example: TaggedSentence,
        ids: np.ndarray,
        first_word_ids: np.ndarray,
        task_tokenizer: TaskTokenizer,
    ) -> EncodedRow:
        """Returns the row of one window.

        Args:
            number: index of the sentence.
            example: the sentence.
            ids: the token ids of the window.
            first_word_ids: the number of the word at its first token, −1 at all other tokens.
            task_tokenizer: adds [CLS] and [SEP].
        """
        tokens, types = task_tokenizer.join_parts([ids])
        origin = np.concatenate([[-1], first_word_ids, [-1]])
        weights = (origin >= 0).astype(np.float32)
        unknown = sorted(set(example.tags) - set(self.labels))
        if unknown:
            raise ValueError(f"sentence {number + 1}: the tag {unknown[0]!r} is not one of {', '.join(self.labels)}")
        has_tags = bool(example.tags)
        tags = [self.labels.index(example.tags[word]) if word >= 0 and has_tags else 0 for word in origin.tolist()]
        return EncodedRow(
            example=number,
            tokens=tokens,
            segment_ids=np.ones_like(tokens),
            token_types=types,
            predict_positions=np.arange(len(tokens), dtype=np.int32),
            prediction_weights=weights,
            label_weights=weights * has_tags,
            labels=np.array(tags, np.int32),
            origin=origin,
        )
