"""Tasks from TFDS, with its own features and one record made in each test."""

import importlib
import sys

import pytest

from distilbert_jax.data.tasks import registry

tfds = pytest.importorskip("tensorflow_datasets")

RECORDS = {
    "sst2": ("glue/sst2", "validation", {"sentence": "a fine film", "label": 1, "idx": 0}),
    "mnli": ("glue/mnli", "validation_matched", {"premise": "a", "hypothesis": "b", "label": 2, "idx": 0}),
    "stsb": ("glue/stsb", "validation", {"sentence1": "a", "sentence2": "b", "label": 2.5, "idx": 0}),
    "imdb": ("imdb_reviews", "test", {"text": "a fine film", "label": 1}),
    "piqa": ("piqa", "validation", {"id": "0", "goal": "a", "sol1": "b", "sol2": "c", "label": 1}),
    "squad": (
        "squad/v1.1",
        "validation",
        {
            "id": "q", "title": "t", "question": "who?", "context": "the cat",
            "answers": {"text": ["cat"], "answer_start": [4]},
        },
    ),
    "conll2003": (
        "conll2003/conll2003",
        "dev",
        {"tokens": ["Ada", "runs"], "ner": ["B-PER", "O"], "pos": ["NNP", "VBZ"], "chunks": ["B-NP", "B-VP"]},
    ),
}  # fmt: skip


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """prepared(name) -> the task, its dataset built from one record instead of a download."""

    def build(name):
        dataset, split, record = RECORDS[name]
        if module := registry.tfds.DATASETS[name].module:
            importlib.import_module(f"tensorflow_datasets.{module}")
        builder = tfds.builder(dataset, data_dir=str(tmp_path), file_format="array_record")

        def generators(*ignored, **named):
            return {split: iter([(0, record)])}

        monkeypatch.setattr(builder, "_split_generators", generators)
        builder.download_and_prepare()
        return registry.find_tfds_task(name, data_dir=str(tmp_path))

    return build


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_is_an_example(prepared, name):
    task = prepared(name)
    (example,) = task.read((*task.test, *task.dev)[0])
    got = {
        "sst2": lambda: (example.texts, example.label) == (("a fine film",), 1),
        "mnli": lambda: (example.texts, example.label) == (("a", "b"), 2),
        "stsb": lambda: (example.texts, example.label) == (("a", "b"), 2.5),
        "imdb": lambda: (example.texts, example.label) == (("a fine film",), 1),
        "piqa": lambda: (example.first, example.choices, example.label) == ("a", ("b", "c"), 1),
        "squad": lambda: (example.context, example.answers, example.answer_starts) == ("the cat", ("cat",), (4,)),
        "conll2003": lambda: (example.words, example.tags) == (("Ada", "runs"), ("B-PER", "O")),
    }[name]
    assert got()
    assert "tensorflow" not in sys.modules


def test_labels_are_in_the_released_order():
    """TFDS numbers the labels in the same order as the released files."""
    from distilbert_jax.data.tasks.datasets import glue

    for name, task in glue.TASKS.items():
        if task.labels:
            importlib.import_module("tensorflow_datasets.text.glue")
            stated = tfds.builder(f"glue/{name}", data_dir="unused").info.features["label"].names
            assert tuple(stated) == task.labels, name


def test_a_task_that_tfds_does_not_have():
    with pytest.raises(ValueError, match="TFDS does not have the task codah"):
        registry.find_tfds_task("codah")


def test_an_unknown_task():
    with pytest.raises(ValueError, match="there is no task 'sst3': choose one of cola, .*--task sst3=FOLDER"):
        registry.find_tfds_task("sst3")
