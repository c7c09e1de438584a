"""The registry of tasks: finds a task by name, with its files, its task type and its common settings."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distilbert_jax.data.tasks import entity_metrics, metrics
from distilbert_jax.data.tasks.datasets import custom, glue, imdb, multiple_choice, ner, squad, tfds
from distilbert_jax.data.tasks.held_out_dev import hold_out_dev
from distilbert_jax.data.tasks.task_types.base import TaskType
from distilbert_jax.data.tasks.task_types.choice_selection import ChoiceSelection
from distilbert_jax.data.tasks.task_types.classification import Classification
from distilbert_jax.data.tasks.task_types.span_extraction import SpanExtraction
from distilbert_jax.data.tasks.task_types.tagging import Tagging
from distilbert_jax.io import untrusted
from distilbert_jax.io.files import expand_path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """The default settings of a task: those of BERT's paper for GLUE, of common example scripts for the others."""

    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 3e-5
    max_length: int = 128  # tokens of a document


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A task with its data.

    Attributes:
        name: the name of the task, which also names the folder of its results.
        task_type: how its examples become rows, and logits become answers and metrics.
        read: (name of a split) -> its examples. Raises ValueError if there is no such split or its file is wrong.
        dev: the splits it is evaluated on after each epoch; they choose the best epoch.
        test: the splits that the model of the best epoch is evaluated on once. If there are any, they give the score.
        recipe: its default settings.
    """

    name: str
    task_type: TaskType
    read: Callable[[str], Sequence[Any]]
    dev: tuple[str, ...] = ("dev",)
    test: tuple[str, ...] = ()
    recipe: Recipe = dataclasses.field(default_factory=Recipe)

    def __post_init__(self) -> None:
        """Raises ValueError if the name cannot be the name of a folder."""
        untrusted.check_file_name(self.name, what="the task's name")


_RECIPES = {
    **{name: Recipe(epochs=5) for name in ("cola", "mrpc", "rte", "stsb", "wnli")},  # small training sets
    **{name: Recipe(epochs=2, batch_size=12, max_length=384) for name in ("squad", "squad2")},
    **{name: Recipe(learning_rate=5e-5) for name in ("conll2003", "wnut17")},
    **{name: Recipe(batch_size=16, learning_rate=5e-5) for name in ("swag", "codah", "piqa")},
    "imdb": Recipe(learning_rate=2e-5, max_length=512),
}

_SPLIT_FILES: Mapping[str, Mapping[str, str]] = {
    "squad": {"train": "train-v1.1.json", "dev": "dev-v1.1.json"},
    "squad2": {"train": "train-v2.0.json", "dev": "dev-v2.0.json"},
    "conll2003": {"train": "train.txt", "dev": "valid.txt", "test": "test.txt"},
    "wnut17": {"train": "wnut17train.conll", "dev": "emerging.dev.conll", "test": "emerging.test.annotated"},
    "swag": {"train": "train.csv", "dev": "val.csv", "test": "test.csv"},
    "codah": {"train": "train.tsv", "dev": "dev.tsv", "test": "test.tsv"},
    "piqa": {"train": "train.jsonl", "dev": "valid.jsonl", "test": "tests.jsonl"},
}
"""{task: {split: file name}} of the tasks with one file for each split."""

_CHOICE_READERS = {
    "swag": multiple_choice.read_swag,
    "codah": multiple_choice.read_codah,
    "piqa": multiple_choice.read_piqa,
}

TASK_NAMES = (*glue.TASKS, *_SPLIT_FILES, "imdb")
"""The names of all tasks with published data. Every other name is a custom task."""


def find_task(name: str, folder: pathlib.Path, *, unlabelled: str | None = None) -> Task:
    """Returns a task whose files are in a folder.

    Args:
        name: one of TASK_NAMES, or any other name for a custom task (see `datasets.custom`).
        folder: the folder of its files. For GLUE tasks, also the folder that contains the task's folder.
        unlabelled: only for a custom task: the label that means that there is none, such as "-1".

    Raises:
        ValueError: the folder does not exist, or a file that the task type depends on is missing or wrong.
    """
    untrusted.check_file_name(name, what="the task's name")
    if unlabelled is not None and name in TASK_NAMES:
        raise ValueError(f"unlabelled is for a task of your own, and {name} has published labels; leave it out")
    folder = expand_path(folder)
    if not folder.is_dir():
        raise ValueError(f"task {name}: the folder {folder} does not exist; write --task {name}=FOLDER")
    if name in glue.TASKS:
        glue_task = glue.TASKS[name]
        inner = folder / glue_task.folder if (folder / glue_task.folder).is_dir() else folder
        return _make_task(name, glue_task.task_type, functools.partial(glue_task.read, inner))
    if name == "imdb":
        return _make_task(name, imdb.TASK_TYPE, functools.partial(imdb.read, folder))
    if name in ("squad", "squad2"):
        no_answer = name == "squad2"
        read_file = functools.partial(squad.read, no_answer=no_answer)
        return _make_task(name, SpanExtraction(no_answer=no_answer), _split_reader(name, folder, read_file))
    if name in ("conll2003", "wnut17"):
        read = _split_reader(name, folder, ner.read)
        return _make_task(name, Tagging(labels=entity_metrics.list_labels([*read("train"), *read("dev")])), read)
    if name in _CHOICE_READERS:
        return _make_task(name, ChoiceSelection(), _split_reader(name, folder, _CHOICE_READERS[name]))
    task_type = custom.infer_task_type(folder, unlabelled=unlabelled)
    read = functools.partial(custom.read, folder, labels=task_type.labels, unlabelled=unlabelled)
    return _make_task(name, task_type, read)


def find_tfds_task(name: str, *, data_dir: str | None = None) -> Task:
    """Returns a task from TensorFlow Datasets.

    Args:
        name: one of TASK_NAMES.
        data_dir: the folder of TFDS; None is its default.

    Raises:
        ValueError: there is no such task, or TFDS does not have it.
    """
    if name not in TASK_NAMES:
        raise ValueError(
            f"there is no task {name!r}: choose one of {', '.join(TASK_NAMES)}, or name the folder of a task of your "
            f"own with --task {name}=FOLDER"
        )
    if name not in tfds.DATASETS:
        raise ValueError(f"TFDS does not have the task {name}: name the folder of its files with --task {name}=FOLDER")
    dataset = tfds.DATASETS[name]
    task_type = dataset.make_task_type(dataset.load_builder(data_dir).info.features)
    return _make_task(name, task_type, functools.partial(dataset.read, data_dir=data_dir))


def make_task_type(
    head: str, *, labels: Sequence[str] = (), problem_type: str | None = None, metric_names: Sequence[str] = ()
) -> TaskType:
    """Returns the task type whose predictions a head makes.

    Args:
        head: the name of the head.
        labels: the names of classes or tags.
        problem_type: the `problem_type` of the Hub's config.json, for sequence classification.
        metric_names: names from `metrics.METRIC_NAMES`, for sequence classification.

    Raises:
        ValueError: no task type uses this head.
    """
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


def _make_task(name: str, task_type: TaskType, read: Callable[[str], Sequence[Any]]) -> Task:
    """Returns a task with its splits and recipe. IMDb was released without a dev split."""
    dev = glue.TASKS[name].dev if name in glue.TASKS else ("dev",)
    test: tuple[str, ...] = ()
    if name == "imdb":
        read, test = hold_out_dev(read), ("test",)
    return Task(name=name, task_type=task_type, read=read, dev=dev, test=test, recipe=_RECIPES.get(name, Recipe()))


def _split_reader(
    name: str, folder: pathlib.Path, read_file: Callable[[pathlib.Path], Sequence[Any]]
) -> Callable[[str], Sequence[Any]]:
    """Returns the function `Task.read` of a task with one file for each split."""

    def read_split(split: str) -> Sequence[Any]:
        """Returns the examples of a split. Raises ValueError if there is no such split or file."""
        if split not in _SPLIT_FILES[name]:
            raise ValueError(f"{name} has no split {split!r}: choose one of {', '.join(_SPLIT_FILES[name])}")
        path = folder / _SPLIT_FILES[name][split]
        if not path.is_file():
            raise ValueError(f"{name}: the file {path.name} is missing in {folder}")
        return read_file(path)

    return read_split
