"""All files of a task of one's own have the same kind of labels and texts."""

import json

import pytest

from distilbert_jax.data.tasks import registry

TRAIN = [("red boat", "neg"), ("blue boat", "pos")]


def write(folder, split, header, rows):
    lines = [header, *(",".join(row) for row in rows)]
    (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("text,score", [("red boat", "0.5")]),
        ("text,labels", [("red boat", "neg|pos")]),
        ("text,labels", [("red boat", "|")]),
    ],
)
def test_another_column_in_dev_is_refused(tmp_path, header, rows):
    write(tmp_path, "train", "text,label", TRAIN)
    write(tmp_path, "dev", header, rows)
    column = header.partition(",")[2]
    message = rf"dev.csv, line 2: the label is in the column {column}, but in .*line 2 it is in the column label"
    with pytest.raises(ValueError, match=message):
        registry.find_task("mine", tmp_path).read("dev")


def test_pairs_in_one_file_only_are_refused(tmp_path):
    write(tmp_path, "train", "text,label", TRAIN)
    write(tmp_path, "dev", "text,text_pair,label", [("red", "boat", "neg")])
    with pytest.raises(ValueError, match="dev.csv, line 2: there is a text_pair, but none in .*train.csv, line 2"):
        registry.find_task("mine", tmp_path).read("dev")


def test_a_dev_file_without_labels_or_with_the_same_column_is_read(tmp_path):
    write(tmp_path, "train", "text,label", TRAIN)
    write(tmp_path, "dev", "text", [("red boat",)])
    assert [example.label for example in registry.find_task("mine", tmp_path).read("dev")] == [None]


def test_zeros_and_ones_for_every_class_are_refused(tmp_path):
    for split in ("train", "dev"):
        lines = [json.dumps({"text": "red boat", "labels": [1, 0, 0]}), json.dumps({"text": "x", "labels": [0, 1, 0]})]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match="names a class twice; write the names of the classes that apply"):
        registry.find_task("mine", tmp_path)
