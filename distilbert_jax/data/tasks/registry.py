"""Every task by its name: where its files are, what it asks, and how it is commonly fine-tuned."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distilbert_jax.data.tasks import entity_metrics, metrics
from distilbert_jax.data.tasks.datasets import custom, glue, imdb, multiple_choice, ner, squad, tfds
from distilbert_jax.data.tasks.task_types.base import TaskType
from distilbert_jax.data.tasks.task_types.choice_selection import ChoiceSelection
from distilbert_jax.data.tasks.task_types.classification import Classification
from distilbert_jax.data.tasks.task_types.span_extraction import SpanExtraction
from distilbert_jax.data.tasks.task_types.tagging import Tagging
from distilbert_jax.io import untrusted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Published practice: of BERT's paper for GLUE, of the common example scripts for the rest."""

    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 3e-5
    max_length: int = 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A task whose data are at hand. `read` gives the examples of a split."""

    name: str
    task_type: TaskType
    read: Callable[[str], Sequence[Any]]
    dev: tuple[str, ...] = ("dev",)
    recipe: Recipe = dataclasses.field(default_factory=Recipe)

    def __post_init__(self) -> None:
        untrusted.check_file_name(self.name, what="the task's name")  # of the folder of its results


_RECIPES = {
    **{name: Recipe(epochs=5) for name in ("cola", "mrpc", "rte", "stsb", "wnli")},  # the small ones
    **{name: Recipe(epochs=2, batch_size=12, max_length=384) for name in ("squad", "squad2")},
    **{name: Recipe(learning_rate=5e-5) for name in ("conll2003", "wnut17")},
    **{name: Recipe(batch_size=16, learning_rate=5e-5) for name in ("swag", "codah", "piqa")},
    "imdb": Recipe(learning_rate=2e-5, max_length=512),
}

_FILES: Mapping[str, Mapping[str, str]] = {
    "squad": {"train": "train-v1.1.json", "dev": "dev-v1.1.json"},
    "squad2": {"train": "train-v2.0.json", "dev": "dev-v2.0.json"},
    "conll2003": {"train": "train.txt", "dev": "valid.txt", "test": "test.txt"},
    "wnut17": {"train": "wnut17train.conll", "dev": "emerging.dev.conll", "test": "emerging.test.annotated"},
    "swag": {"train": "train.csv", "dev": "val.csv", "test": "test.csv"},
    "codah": {"train": "train.tsv", "dev": "dev.tsv", "test": "test.tsv"},
    "piqa": {"train": "train.jsonl", "dev": "valid.jsonl", "test": "tests.jsonl"},
}

TASK_NAMES = (*glue.TASKS, *_FILES, "imdb")


def find_task(name: str, folder: pathlib.Path) -> Task:
    """The task `name` with its files in `folder`; a name that is none of NAMES is a task of one's own (`own`).

    Raises ValueError where the folder or what is needed of it is missing.
    """
    untrusted.check_file_name(name, what="the task's name")
    if not folder.is_dir():
        raise ValueError(f"task {name}: no such folder: {folder}")
    form: TaskType
    if name in glue.TASKS:
        task = glue.TASKS[name]
        inner = folder / task.folder if (folder / task.folder).is_dir() else folder
        return _task(name, task.make_task_type, functools.partial(task.read, inner))
    if name == "imdb":
        return _task(name, imdb.TASK_TYPE, functools.partial(imdb.read, folder))
    if name in ("squad", "squad2"):
        return _task(name, SpanExtraction(no_answer=name == "squad2"), _reader(name, folder, squad.read))
    if name in ("conll2003", "wnut17"):
        read = _reader(name, folder, ner.read)
        return _task(name, Tagging(labels=entity_metrics.list_labels([*read("train"), *read("dev")])), read)
    if name in ("swag", "codah", "piqa"):
        return _task(name, ChoiceSelection(), _reader(name, folder, getattr(multiple_choice, name)))
    form = custom.infer_task_type(folder)
    return _task(name, form, functools.partial(custom.read, folder, labels=form.labels))


def find_tfds_task(name: str, *, data_dir: str | None = None) -> Task:
    """The task `name` from TensorFlow Datasets. ValueError where these do not have it."""
    if name not in tfds.DATASETS:
        raise ValueError(f"TFDS does not have the task {name}: where are its files? --task {name}=FOLDER")
    dataset = tfds.DATASETS[name]
    form = dataset.task_type(dataset.builder(data_dir).info.features)
    return _task(name, form, functools.partial(dataset.read, data_dir=data_dir))


def make_task_type(
    head: str, *, labels: Sequence[str] = (), problem_type: str | None = None, metric_names: Sequence[str] = ()
) -> TaskType:
    """The form whose questions a head answers. ValueError for a head that answers none."""
    if head == "sequence_classification":
        return Classification(
            labels=tuple(labels),
            metrics=tuple(getattr(metrics, name) for name in metric_names),
            multi_label=problem_type == "multi_label_classification",
        )
    if head == "token_classification":
        return Tagging(labels=tuple(labels))
    if head not in ("question_answering", "multiple_choice"):
        raise ValueError(
            f"no task has the head {head}: choose one of sequence_classification, token_classification, "
            "question_answering, multiple_choice"
        )
    return SpanExtraction() if head == "question_answering" else ChoiceSelection()


def _task(name: str, form: TaskType, read: Callable[[str], Sequence[Any]]) -> Task:
    dev = glue.TASKS[name].dev if name in glue.TASKS else ("test",) if name == "imdb" else ("dev",)
    return Task(name=name, task_type=form, read=read, dev=dev, recipe=_RECIPES.get(name, Recipe()))


def _reader(
    name: str, folder: pathlib.Path, read: Callable[[pathlib.Path], Sequence[Any]]
) -> Callable[[str], Sequence[Any]]:
    def of_split(split: str) -> Sequence[Any]:
        if split not in _FILES[name]:
            raise ValueError(f"{name} has no split {split!r}: choose one of {', '.join(_FILES[name])}")
        path = folder / _FILES[name][split]
        if not path.is_file():
            raise ValueError(f"{name}: no {path.name} in {folder}")
        return read(path)

    return of_split
