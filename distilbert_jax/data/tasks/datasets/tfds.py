"""Tasks from TensorFlow Datasets, read without TensorFlow through random-access files: the examples are those of the
released files, so everything after the reader is the same.
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

Record = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TfdsTask:
    """One of TFDS: its name there, our names of its splits, and how a record becomes an example."""

    name: str
    splits: Mapping[str, str]
    example: Callable[[Record, Any], Any]
    task_type: Callable[[Any], TaskType]  # of the dataset's features
    module: str | None = None  # of TFDS, where its index finds the dataset only once that is imported

    def read(self, split: str, *, data_dir: str | None = None) -> Sequence[Any]:
        """The examples of a split. ValueError for one it has not."""
        if split not in self.splits:
            raise ValueError(f"TFDS {self.name} has no split {split!r}: choose one of {', '.join(self.splits)}")
        builder = self.builder(data_dir)
        records = builder.as_data_source(split=self.splits[split])
        return [self.example(record, builder.info.features) for record in records]

    def builder(self, data_dir: str | None = None) -> Any:
        return tfds_builder(self.name, data_dir, module=self.module)


def _said(x: Any) -> str:
    return x.decode() if isinstance(x, bytes) else str(x)


def _texts(record: Record, features: Any, *, fields: tuple[str, ...], number: bool = False) -> Example:
    label = float(record["label"]) if number else int(record["label"])
    texts = tuple(_said(record[field]) for field in fields)
    return Example(id=_said(record.get("idx", "")), texts=texts, label=None if label < 0 else label)


def _question(record: Record, features: Any) -> SpanQuestion:
    answers = record["answers"]
    return SpanQuestion(
        id=_said(record["id"]),
        question=_said(record["question"]),
        context=_said(record["context"]),
        answers=tuple(map(_said, answers["text"])),
        answer_starts=tuple(int(start) for start in answers["answer_start"]),
    )


def _sentence(record: Record, features: Any) -> TaggedSentence:
    names = features["ner"].feature.names
    return TaggedSentence(
        words=tuple(map(_said, record["tokens"])), tags=tuple(names[int(tag)] for tag in record["ner"])
    )


def _choice(record: Record, features: Any) -> ChoiceQuestion:
    choices = (_said(record["sol1"]), _said(record["sol2"]))
    return ChoiceQuestion(first=_said(record["goal"]), choices=choices, label=int(record["label"]))


def _form_of_glue(task: glue.GlueTask, features: Any) -> TaskType:
    return task.make_task_type


_USUAL = {"train": "train", "dev": "validation", "test": "test"}
_FIELDS = {
    "cola": ("sentence",),
    "sst2": ("sentence",),
    "qqp": ("question1", "question2"),
    "mnli": ("premise", "hypothesis"),
    "qnli": ("question", "sentence"),
    "ax": ("premise", "hypothesis"),
}
_SPLITS = {
    "mnli": {"train": "train", "dev_matched": "validation_matched", "dev_mismatched": "validation_mismatched"},
    "ax": {"ax": "test"},
}

DATASETS = {
    name: TfdsTask(
        name=f"glue/{name}",
        splits=_SPLITS.get(name, _USUAL),
        example=functools.partial(_texts, fields=_FIELDS.get(name, ("sentence1", "sentence2")), number=not task.labels),
        task_type=functools.partial(_form_of_glue, task),
        module="text.glue",
    )
    for name, task in glue.TASKS.items()
} | {
    "imdb": TfdsTask(
        name="imdb_reviews",
        splits={"train": "train", "test": "test", "unsup": "unsupervised"},
        example=functools.partial(_texts, fields=("text",)),
        task_type=lambda features: imdb.TASK_TYPE,
    ),
    "squad": TfdsTask(name="squad/v1.1", splits=_USUAL, example=_question, task_type=lambda features: SpanExtraction()),
    "squad2": TfdsTask(
        name="squad/v2.0", splits=_USUAL, example=_question, task_type=lambda features: SpanExtraction(no_answer=True)
    ),
    "conll2003": TfdsTask(
        name="conll2003/conll2003",
        splits={"train": "train", "dev": "dev", "test": "test"},
        example=_sentence,
        task_type=lambda features: Tagging(labels=tuple(features["ner"].feature.names)),
        module="text.conll2003.conll2003",
    ),
    "piqa": TfdsTask(name="piqa", splits=_USUAL, example=_choice, task_type=lambda features: ChoiceSelection()),
}
