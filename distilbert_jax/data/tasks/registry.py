"""Every task by its name: where its files are, what it asks, and how it is commonly fine-tuned."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distilbert_jax.data.tasks import entity_metrics, metrics
from distilbert_jax.data.tasks.datasets import custom, glue, imdb, multiple_choice, ner, squad, tfds
from distilbert_jax.data.tasks.task_types.base import Form
from distilbert_jax.data.tasks.task_types.choice_selection import Choices
from distilbert_jax.data.tasks.task_types.classification import Classes
from distilbert_jax.data.tasks.task_types.span_extraction import Spans
from distilbert_jax.data.tasks.task_types.tagging import Tags
from distilbert_jax.io import untrusted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Published practice: of BERT's paper for GLUE, of the common example scripts for the rest."""

    epochs: int = 3
    batch: int = 32
    peak_lr: float = 3e-5
    max_length: int = 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A task whose data are at hand. `read` gives the examples of a split."""

    name: str
    form: Form
    read: Callable[[str], Sequence[Any]]
    dev: tuple[str, ...] = ("dev",)
    recipe: Recipe = dataclasses.field(default_factory=Recipe)

    def __post_init__(self) -> None:
        untrusted.one_name(self.name, what="the task's name")  # of the folder of its results


_RECIPES = {
    **{name: Recipe(epochs=5) for name in ("cola", "mrpc", "rte", "stsb", "wnli")},  # the small ones
    **{name: Recipe(epochs=2, batch=12, max_length=384) for name in ("squad", "squad2")},
    **{name: Recipe(peak_lr=5e-5) for name in ("conll2003", "wnut17")},
    **{name: Recipe(batch=16, peak_lr=5e-5) for name in ("swag", "codah", "piqa")},
    "imdb": Recipe(peak_lr=2e-5, max_length=512),
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

NAMES = (*glue.TASKS, *_FILES, "imdb")


def find(name: str, folder: pathlib.Path) -> Task:
    """The task `name` with its files in `folder`; a name that is none of NAMES is a task of one's own (`own`).

    Raises ValueError where the folder or what is needed of it is missing.
    """
    untrusted.one_name(name, what="the task's name")
    if not folder.is_dir():
        raise ValueError(f"task {name}: no such folder: {folder}")
    form: Form
    if name in glue.TASKS:
        task = glue.TASKS[name]
        inner = folder / task.folder if (folder / task.folder).is_dir() else folder
        return _task(name, task.form, functools.partial(task.read, inner))
    if name == "imdb":
        return _task(name, imdb.FORM, functools.partial(imdb.read, folder))
    if name in ("squad", "squad2"):
        return _task(name, Spans(no_answer=name == "squad2"), _reader(name, folder, squad.read))
    if name in ("conll2003", "wnut17"):
        read = _reader(name, folder, ner.read)
        return _task(name, Tags(labels=entity_metrics.labels([*read("train"), *read("dev")])), read)
    if name in ("swag", "codah", "piqa"):
        return _task(name, Choices(), _reader(name, folder, getattr(multiple_choice, name)))
    form = custom.form(folder)
    return _task(name, form, functools.partial(custom.read, folder, labels=form.labels))


def find_in_tfds(name: str, *, data_dir: str | None = None) -> Task:
    """The task `name` from TensorFlow Datasets. ValueError where these do not have it."""
    if name not in tfds.DATASETS:
        raise ValueError(f"TFDS does not have the task {name}: where are its files? --task {name}=FOLDER")
    dataset = tfds.DATASETS[name]
    form = dataset.form(dataset.builder(data_dir).info.features)
    return _task(name, form, functools.partial(dataset.read, data_dir=data_dir))


def form_of(
    head: str, *, labels: Sequence[str] = (), problem_type: str | None = None, metric_names: Sequence[str] = ()
) -> Form:
    """The form whose questions a head answers. ValueError for a head that answers none."""
    if head == "sequence_classification":
        return Classes(
            labels=tuple(labels),
            metrics=tuple(getattr(metrics, name) for name in metric_names),
            several=problem_type == "multi_label_classification",
        )
    if head == "token_classification":
        return Tags(labels=tuple(labels))
    if head not in ("question_answering", "multiple_choice"):
        raise ValueError(
            f"no task has the head {head}: choose one of sequence_classification, token_classification, "
            "question_answering, multiple_choice"
        )
    return Spans() if head == "question_answering" else Choices()


def _task(name: str, form: Form, read: Callable[[str], Sequence[Any]]) -> Task:
    dev = glue.TASKS[name].dev if name in glue.TASKS else ("test",) if name == "imdb" else ("dev",)
    return Task(name=name, form=form, read=read, dev=dev, recipe=_RECIPES.get(name, Recipe()))


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
