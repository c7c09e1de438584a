"""Every task by its name: where its files are, what it asks, and how it is commonly fine-tuned."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distilbert_jax.data.tasks import glue, imdb, multiple_choice, ner, own, squad
from distilbert_jax.data.tasks.choices import Choices
from distilbert_jax.data.tasks.form import Form
from distilbert_jax.data.tasks.spans import Spans
from distilbert_jax.data.tasks.tags import Tags


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


_SMALL = {"mrpc": 5, "rte": 5, "wnli": 5, "cola": 5, "stsb": 5}  # epochs of the small tasks of GLUE
_SPANS = Recipe(epochs=2, batch=12, peak_lr=3e-5, max_length=384)
_TAGS = Recipe(epochs=3, batch=32, peak_lr=5e-5)
_CHOICES = Recipe(epochs=3, batch=16, peak_lr=5e-5)

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
    if not folder.is_dir():
        raise ValueError(f"task {name}: no such folder: {folder}")
    if name in glue.TASKS:
        task = glue.TASKS[name]
        inner = folder / task.folder if (folder / task.folder).is_dir() else folder
        recipe = Recipe(epochs=_SMALL.get(name, 3))
        return Task(name=name, form=task.form, read=functools.partial(task.read, inner), dev=task.dev, recipe=recipe)
    if name == "imdb":
        recipe = Recipe(peak_lr=2e-5, max_length=512)
        return Task(name=name, form=imdb.FORM, read=functools.partial(imdb.read, folder), dev=("test",), recipe=recipe)
    if name in ("squad", "squad2"):
        return Task(
            name=name, form=Spans(no_answer=name == "squad2"), read=_reader(name, folder, squad.read), recipe=_SPANS
        )
    if name in ("conll2003", "wnut17"):
        read = _reader(name, folder, ner.read)
        return Task(name=name, form=Tags(labels=ner.labels(read("train"))), read=read, recipe=_TAGS)
    if name in ("swag", "codah", "piqa"):
        read = _reader(name, folder, getattr(multiple_choice, name))
        return Task(name=name, form=Choices(), read=read, recipe=_CHOICES)
    form = own.form(folder)
    return Task(name=name, form=form, read=functools.partial(own.read, folder, labels=form.labels))


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
