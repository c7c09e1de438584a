"""Custom tasks and IMDb: labels of each kind, and errors in the files."""

import json

import pytest

from distilbert_jax.data.tasks import registry
from tests.conftest import shared


def write(folder, **files):
    for name, content in files.items():
        split, _, suffix = name.rpartition("_")
        (folder / f"{split}.{suffix}").write_text(content)
    return folder


def jsonl(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_classes_from_csv(tmp_path):
    csv = 'text,label\n"A cat, red",good\nA dog,bad\nA tree,\n'
    task = registry.find_task("mine", write(tmp_path, train_csv=csv, dev_csv=csv))
    assert (task.task_type.labels, task.task_type.problem_type) == (("bad", "good"), "single_label_classification")
    assert [(e.texts, e.label) for e in task.read("dev")] == [
        (("A cat, red",), 1),
        (("A dog",), 0),
        (("A tree",), None),
    ]


def test_numbers_and_pairs_from_jsonl(tmp_path):
    rows = jsonl({"text": "a", "text_pair": "b", "score": 2}, {"text": "c", "text_pair": "d", "score": 0.5})
    task = registry.find_task("mine", write(tmp_path, train_jsonl=rows, dev_jsonl=rows))
    assert task.task_type.problem_type == "regression"
    assert [(e.texts, e.label) for e in task.read("train")] == [(("a", "b"), 2.0), (("c", "d"), 0.5)]


def test_several_classes(tmp_path):
    rows = jsonl({"text": "a", "labels": ["x", "y"]}, {"text": "c", "labels": []})
    task = registry.find_task("mine", write(tmp_path, train_jsonl=rows, dev_csv="text,labels\na,x|y\n"))
    assert (task.task_type.labels, task.task_type.problem_type) == (("x", "y"), "multi_label_classification")
    assert [e.label for e in task.read("train")] == [(1.0, 1.0), (0.0, 0.0)]
    assert [e.label for e in task.read("dev")] == [(1.0, 1.0)]


def test_soft_labels(tmp_path):
    csv = "text,label,probability:no,probability:yes\na,yes,,\nb,,0.25,0.75\nc,,,\n"
    task = registry.find_task("mine", write(tmp_path, train_csv=csv))
    assert [e.label for e in task.read("train")] == [1, (0.25, 0.75), None]
    rows = jsonl({"text": "b", "probabilities": {"yes": 0.75, "no": 0.25}})
    (tmp_path / "train.csv").unlink()
    assert registry.find_task("mine", write(tmp_path, train_jsonl=rows)).read("train")[0].label == (0.25, 0.75)


GOOD = "text,label\na,x\nb,y\n"
BAD = {
    "a class that is not in the training file": (
        dict(dev_csv="text,label\na,z\n"),
        "line 2: the label 'z' is not one of x, y",
    ),
    "unequal columns": (
        dict(dev_csv="text,label\na\n"),
        "line 2: this row does not have the columns of the first line",
    ),
    "no text": (dict(dev_csv="words,label\na,x\n"), "there is no column `text`, only words, label"),
    "empty": (dict(dev_csv="text,label\n"), "the file has no examples"),
    "missing": ({}, "contains none of dev.csv, dev.tsv, dev.jsonl; exactly one of them is needed"),
    "two": (dict(dev_csv=GOOD, dev_jsonl="{}"), "contains dev.csv and dev.jsonl; keep exactly one of them"),
    "not JSON": (dict(dev_jsonl="{'text'"), "line 1: not JSON"),
    "not an object": (dict(dev_jsonl="[1]"), "line 1: not a JSON object"),
    "two answers": (
        dict(dev_csv="text,label,score\na,x,1\n"),
        "label and score are both filled in; keep only one of them",
    ),
    "not a number": (dict(dev_csv="text,score\na,much\n"), "score 'much' is not a finite number"),
    "not probabilities": (
        dict(dev_jsonl=jsonl({"text": "a", "probabilities": {"x": 0.9, "y": 0.9}})),
        "the probabilities must each be at least 0 and their sum 1, but their sum is 1.8",
    ),
    "a negative probability": (
        dict(dev_jsonl=jsonl({"text": "a", "probabilities": {"x": 1.2, "y": -0.2}})),
        "the probabilities must each be at least 0 and their sum 1, but one is -0.2",
    ),
    "pairs on some lines only": (
        dict(dev_jsonl=jsonl({"text": "a"}, {"text": "a", "text_pair": "b"})),
        "some lines have a text_pair and others do not",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files(case, tmp_path):
    files, message = BAD[case]
    task = registry.find_task("mine", write(tmp_path, train_csv=GOOD))
    write(tmp_path, **files)
    with pytest.raises(ValueError, match=message):
        task.read("dev")


@pytest.mark.parametrize(
    "train, message",
    [
        (
            "text\na\n",
            "neither the train nor the dev file has labels; fill in one of the columns label, score",
        ),
        ("text,label\na,x\nb,x\n", "all labels of the training file are 'x'; training needs at least two classes"),
        ("text,label,score\na,x,\nb,,1\n", "in more than one column: label, score; keep only one of them"),
    ],
)
def test_bad_training_files(train, message, tmp_path):
    folder = write(tmp_path, train_csv=train, dev_csv="text\na\n")
    with pytest.raises(ValueError, match=message):
        registry.find_task("mine", folder)


def test_classes_come_from_dev_if_the_training_file_has_no_labels(tmp_path):
    task = registry.find_task("mine", write(tmp_path, train_csv="text\na\nb\n", dev_csv="text,label\na,x\nb,y\n"))
    assert task.task_type.labels == ("x", "y")
    assert [example.label for example in task.read("train")] == [None, None]


def test_imdb():
    task = registry.find_task("imdb", shared("data/rows/imdb/plain_text/aclImdb"))
    train = task.read("train")
    assert {e.label for e in train} == {0, 1}
    assert all(e.id.startswith("pos" if e.label else "neg") for e in train)
    assert {e.label for e in task.read("unsup")} == {None}
    with pytest.raises(ValueError, match="name the folder aclImdb"):
        task.read("dev")


def test_missing_folders_and_files(tmp_path):
    with pytest.raises(ValueError, match="nowhere does not exist; write --task sst2=FOLDER"):
        registry.find_task("sst2", tmp_path / "nowhere")
    for name in ("squad", "swag", "conll2003"):
        with pytest.raises(ValueError, match=f"{name}: the file train.* is missing in"):
            registry.find_task(name, tmp_path).read("train")
    with pytest.raises(ValueError, match="squad has no split 'sideways'"):
        registry.find_task("squad", tmp_path).read("sideways")
