"""Tasks from TensorFlow Datasets (TFDS), read without TensorFlow through random-access files.

The records become the same examples as those of the released files, so all other code is shared.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distilbert_jax.data.sources.tfds import tfds_builder
from distilbert_jax.data.tasks.datasets import glue, imdb
from distilbert_jax.data.tasks.examples import ChoiceQuestion, Example, SpanQuestion, TaggedSentence
from distilbert_jax.data.tasks.task_types.base import TaskType
from distilbert_jax.data.tasks.task_types.choice_selection import ChoiceSelection
from distilbert_jax.data.tasks.task_types.span_extraction import SpanExtraction
from distilbert_jax.data.tasks.task_types.tagging import Tagging

TfdsRecord = Mapping[str, Any]
"""A record of a TFDS dataset: {feature: value}."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TfdsTask:
    """A task of TFDS.

    Attributes:
        name: the dataset's name in TFDS, with its configuration, such as "glue/sst2".
        splits: {our name of a split: its name in TFDS}.
        make_example: (record, features of the dataset) -> example.
        make_task_type: (features of the dataset) -> task type.
        module: the module of TFDS that has to be imported before TFDS finds the dataset by name.
    """

    name: str
    splits: Mapping[str, str]
    make_example: Callable[[TfdsRecord, Any], Any]
    make_task_type: Callable[[Any], TaskType]
    module: str | None = None

    def read(self, split: str, *, data_dir: str | None = None) -> Sequence[Any]:
        """Returns the examples of a split.

        Args:
            split: our name of the split.
            data_dir: the folder of TFDS; None is its default.

        Raises:
            ValueError: the dataset has no such split.
        """
        if split not in self.splits:
            raise ValueError(f"TFDS {self.name} has no split {split!r}: choose one of {', '.join(self.splits)}")
        builder = self.load_builder(data_dir)
        records = builder.as_data_source(split=self.splits[split])
        return [self.make_example(record, builder.info.features) for record in records]

    def load_builder(self, data_dir: str | None = None) -> Any:
        """Returns the TFDS builder of the dataset; downloads and prepares the dataset if necessary."""
        return tfds_builder(self.name, data_dir, module=self.module)


def _decode_text(x: Any) -> str:
    """Returns the text of a feature, which TFDS stores as bytes."""
    return x.decode() if isinstance(x, bytes) else str(x)


def _make_text_example(
    record: TfdsRecord, features: Any, *, fields: tuple[str, ...], is_regression: bool = False
) -> Example:
    """Returns an example of classification or regression. TFDS writes an unknown label as −1."""
    label = float(record["label"]) if is_regression else int(record["label"])
    texts = tuple(_decode_text(record[field]) for field in fields)
    return Example(id=_decode_text(record.get("idx", "")), texts=texts, label=None if label < 0 else label)


def _make_span_question(record: TfdsRecord, features: Any) -> SpanQuestion:
    """Returns a question of SQuAD."""
    answers = record["answers"]
    return SpanQuestion(
        id=_decode_text(record["id"]),
        question=_decode_text(record["question"]),
        context=_decode_text(record["context"]),
        answers=tuple(map(_decode_text, answers["text"])),
        answer_starts=tuple(int(start) for start in answers["answer_start"]),
    )


def _make_tagged_sentence(record: TfdsRecord, features: Any) -> TaggedSentence:
    """Returns a sentence of CoNLL-2003."""
    names = features["ner"].feature.names
    return TaggedSentence(
        words=tuple(map(_decode_text, record["tokens"])), tags=tuple(names[int(tag)] for tag in record["ner"])
    )


def _make_choice_question(record: TfdsRecord, features: Any) -> ChoiceQuestion:
    """Returns a question of PIQA."""
    choices = (_decode_text(record["sol1"]), _decode_text(record["sol2"]))
    return ChoiceQuestion(first=_decode_text(record["goal"]), choices=choices, label=int(record["label"]))


def _make_glue_task_type(task: glue.GlueTask, features: Any) -> TaskType:
    """Returns the task type of a GLUE task, which does not depend on the features."""
    return task.task_type


_DEFAULT_SPLITS = {"train": "train", "dev": "validation", "test": "test"}
_GLUE_FIELDS = {
    "cola": ("sentence",),
    "sst2": ("sentence",),
    "qqp": ("question1", "question2"),
    "mnli": ("premise", "hypothesis"),
    "qnli": ("question", "sentence"),
    "ax": ("premise", "hypothesis"),
}
_GLUE_SPLITS = {
    "mnli": {"train": "train", "dev_matched": "validation_matched", "dev_mismatched": "validation_mismatched"},
    "ax": {"ax": "test"},
}

DATASETS = {
    name: TfdsTask(
        name=f"glue/{name}",
        splits=_GLUE_SPLITS.get(name, _DEFAULT_SPLITS),
        make_example=functools.partial(
            _make_text_example, fields=_GLUE_FIELDS.get(name, ("sentence1", "sentence2")), is_regression=not task.labels
        ),
        make_task_type=functools.partial(_make_glue_task_type, task),
        module="text.glue",
    )
    for name, task in glue.TASKS.items()
} | {
    "imdb": TfdsTask(
        name="imdb_reviews",
        splits={"train": "train", "test": "test", "unsup": "unsupervised"},
        make_example=functools.partial(_make_text_example, fields=("text",)),
        make_task_type=lambda features: imdb.TASK_TYPE,
    ),
    "squad": TfdsTask(
        name="squad/v1.1",
        splits=_DEFAULT_SPLITS,
        make_example=_make_span_question,
        make_task_type=lambda features: SpanExtraction(),
    ),
    "squad2": TfdsTask(
        name="squad/v2.0",
        splits=_DEFAULT_SPLITS,
        make_example=_make_span_question,
        make_task_type=lambda features: SpanExtraction(no_answer=True),
    ),
    "conll2003": TfdsTask(
        name="conll2003/conll2003",
        splits={"train": "train", "dev": "dev", "test": "test"},
        make_example=_make_tagged_sentence,
        make_task_type=lambda features: Tagging(labels=tuple(features["ner"].feature.names)),
        module="text.conll2003.conll2003",
    ),
    "piqa": TfdsTask(
        name="piqa",
        splits=_DEFAULT_SPLITS,
        make_example=_make_choice_question,
        make_task_type=lambda features: ChoiceSelection(),
    ),
}
