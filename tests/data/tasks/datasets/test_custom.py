"""Custom tasks and IMDb: labels of each kind, and errors in the files."""

import json
import math

import pytest

from distilbert_jax.data.tasks import registry
from tests.conftest import shared


def write(folder, **files):
    for name, content in files.items():
        split, _, suffix = name.rpartition("_")
        (folder / f"{split}.{suffix}").write_text(content, encoding="utf-8")
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


def labels_of(tmp_path, *, unlabelled=None, **files):
    """The classes, and the number of each training example's label."""
    task = registry.find_task("mine", write(tmp_path, **files), unlabelled=unlabelled)
    return list(task.task_type.labels), [example.label for example in task.read("train")]


def test_tables_of_tabs(tmp_path):
    tsv = 'text\tlabel\n"a\tb"\tx\nc, d\ty\n'
    task = registry.find_task("mine", write(tmp_path, train_tsv=tsv))
    assert [(e.texts, e.label) for e in task.read("train")] == [(("a\tb",), 0), (("c, d",), 1)]


def test_spaces_around_names_are_removed(tmp_path):
    csv = " text , label \na, x\nb,x \nc,\xa0y\n"
    assert labels_of(tmp_path, train_csv=csv) == (["x", "y"], [0, 0, 1])


def test_numbers_are_in_the_order_of_numbers(tmp_path):
    csv = "text,label\n" + "".join(f"a,{name}\n" for name in (10, 9, 2, "b", "-3", "0.5", "a"))
    assert labels_of(tmp_path, train_csv=csv)[0] == ["-3", "0.5", "2", "9", "10", "a", "b"]


def test_one_class_however_a_number_is_written(tmp_path):
    values = [1, "1", 1.0, "1.0", " 1.00 ", 0, -0.0, "-0.0", 2.5, "2.5"]
    rows = jsonl(*({"text": "a", "label": value} for value in values))
    assert labels_of(tmp_path, train_jsonl=rows) == (["0", "1", "2.5"], [1, 1, 1, 1, 1, 0, 0, 0, 2, 2])


def test_truth_values(tmp_path):
    task = registry.find_task(
        "mine",
        write(
            tmp_path,
            train_jsonl=jsonl({"text": "a", "label": True}, {"text": "b", "label": False}),
            dev_csv="text,label\na,True\nb,false\nc,FALSE\n",
        ),
    )
    assert task.task_type.labels == ("false", "true")
    assert [example.label for example in task.read("dev")] == [1, 0, 0]


def test_floats_that_a_gap_made(tmp_path):
    files = dict(train_csv="text,label\na,0.0\nb,1.0\nc,\n", dev_csv="text,label\na,0\nb,1\n")
    assert labels_of(tmp_path, **files) == (["0", "1"], [0, 1, None])
    assert [example.label for example in registry.find_task("mine", tmp_path).read("dev")] == [0, 1]


@pytest.mark.parametrize("column, value", [("label", "x"), ("score", 1), ("labels", ["x", "y"])])
def test_null_and_nan_are_no_label(column, value, tmp_path):
    values = [value, None, math.nan, "", "NaN", " nan ", "null", r"\N"]
    rows = jsonl(*({"text": "a", column: value} for value in values), {"text": "a"}, {"text": "b", column: value})
    if column == "label":
        rows += jsonl({"text": "c", "label": "y"})
    labels = [example.label for example in registry.find_task("mine", write(tmp_path, train_jsonl=rows)).read("train")]
    assert [label is None for label in labels][:10] == [False, *[True] * 8, False]


def test_case_counts_unless_only_one_class_is_meant(tmp_path):
    csv = "text,label\na,It\nb,IT\nc,No\n"
    task = registry.find_task("mine", write(tmp_path, train_csv=csv, dev_csv="text,label\na,It\nb,IT\nc,no\nd,NO\n"))
    assert task.task_type.labels == ("IT", "It", "No")
    assert [example.label for example in task.read("dev")] == [1, 0, 2, 2]
    write(tmp_path, dev_csv="text,label\na,It\nb,it\n")
    with pytest.raises(ValueError, match="line 3: the label 'it' is not one of IT, It, No"):
        task.read("dev")


def test_none_of_the_labels(tmp_path):
    csv = "text,labels\na,x|y\nb, x | y \nc,|\nd,\ne,y\n"
    expected = [(1.0, 1.0), (1.0, 1.0), (0.0, 0.0), None, (0.0, 1.0)]
    assert labels_of(tmp_path, train_csv=csv) == (["x", "y"], expected)
    task = registry.find_task("mine", tmp_path)
    examples = task.read("train")
    answers = task.task_type.format_submission(examples[:3], [(1, 1), (0, 1), (0, 0)])[1]
    assert answers == "index\tprediction\n0\tx|y\n1\ty\n2\t|\n"


def test_minus_one_may_mean_no_label(tmp_path):
    rows = jsonl(*({"text": "a", "label": value} for value in (0, 1, -1, "-1", -1.0)))
    with pytest.raises(ValueError, match=r"train.jsonl, line 3: the label is -1, .* Add --unlabelled -1 if it does"):
        labels_of(tmp_path, train_jsonl=rows)
    assert labels_of(tmp_path, train_jsonl=rows, unlabelled="-1") == (["0", "1"], [0, 1, None, None, None])
    assert labels_of(tmp_path, train_jsonl=rows, unlabelled="") == (["-1", "0", "1"], [1, 2, 0, 0, 0])


@pytest.mark.parametrize(
    "content",
    [
        "text,label\na,-1\nb,-1\n",
        "text,label\na,x\nb,y\nc,-1.0\n",
        "text,score\na,0.5\nb,-1\nc,3\n",
        "text,labels\na,1|2\nb,-1\n",
    ],
)
def test_minus_one_of_each_kind(content, tmp_path):
    with pytest.raises(ValueError, match="the label is -1"):
        labels_of(tmp_path, train_csv=content)
    if "a,-1" not in content:
        assert labels_of(tmp_path, train_csv=content, unlabelled="-1")[1].count(None) == 1


def test_minus_one_among_negative_numbers(tmp_path):
    assert labels_of(tmp_path, train_csv="text,label\na,-2\nb,-1\nc,0\n")[0] == ["-2", "-1", "0"]
    assert labels_of(tmp_path, train_csv="text,score\na,-0.5\nb,-1\nc,0\n")[1] == [-0.5, -1.0, 0.0]


def test_another_word_for_no_label(tmp_path):
    csv = "text,label\na,x\nb,n/a\nc,y\n"
    assert labels_of(tmp_path, train_csv=csv, unlabelled="n/a") == (["x", "y"], [0, None, 1])
    with pytest.raises(ValueError, match="unlabelled is for a task of your own, and sst2 has published labels"):
        registry.find_task("sst2", tmp_path, unlabelled="-1")
    rows = jsonl({"text": "a", "labels": ["x", "y"]}, {"text": "b", "labels": ["-1", "x"]})
    (tmp_path / "train.csv").unlink()
    with pytest.raises(ValueError, match="line 2: -1 means that there is no label, but there are other labels"):
        labels_of(tmp_path, train_jsonl=rows, unlabelled="-1")


BAD_LABELS = {
    "two kinds": (
        dict(train_jsonl=jsonl({"text": "a", "label": 1}, {"text": "b", "label": True})),
        "line 2: the label is true, and in .*, line 1 it is the number 1; write each class in one way",
    ),
    "two ways to write a number": (
        dict(train_csv="text,label\na,3.1\nb,3.10\n"),
        "line 3: the labels '3.10' and '3.1' .* are the same number",
    ),
    "two ways to write an accent": (
        dict(train_csv="text,label\na,caf\u00e9\nb,cafe\u0301\n"),
        r"line 3: the labels 'cafe\\u0301' and 'caf\\xe9' .* look the same",
    ),
    "a space that is not seen": (
        dict(train_csv="text,label\na,very good\nb,very\u00a0good\n"),
        r"line 3: the labels 'very\\xa0good' and 'very good' .* look the same",
    ),
    "commas between labels": (
        dict(train_csv='text,labels\na,x\nb,"x,y"\n'),
        r"line 3: labels 'x,y' has ',' in it; write x\|y for several labels",
    ),
    "semicolons between labels": (dict(train_csv="text,labels\na,x;y\n"), r"line 2: labels 'x;y' has ';' .* x\|y"),
    "nothing between two bars": (dict(train_csv="text,labels\na,x||y\n"), "line 2: a label is '', which means that"),
    "a bar in a name": (dict(train_jsonl=jsonl({"text": "a", "labels": ["x|y"]})), r"has a name with \|"),
    "null in a list": (dict(train_jsonl='{"text": "a", "labels": ["x", NaN]}'), "line 1: a label is nan"),
    "a list as text": (
        dict(train_csv="text,labels\na,\"['x', 'y']\"\n"),
        r"line 2: labels .* is a list written as text; write a\|b for several labels and \| for none of them",
    ),
    "an empty list as text": (dict(train_csv="text,labels\na,[]\n"), r"labels '\[\]' is a list written as text"),
    "a list as the text of one label": (
        dict(train_csv="text,label\na,['x']\n"),
        r"line 2: the label .* is a list written as text; write the name of one class",
    ),
    "an object as text": (
        dict(train_csv='text,probabilities\na,"{""x"": 1}"\n'),
        "write an object in JSON lines, or a column probability:NAME for each class in CSV",
    ),
    "infinity": (dict(train_jsonl='{"text": "a", "label": Infinity}'), "line 1: inf is not the name of a class"),
    "a line break": (dict(train_csv='text,label\na,"x\ny"\n'), r"line 2: 'x\\ny' has a line break"),
    "a number with a line": (dict(train_csv="text,score\na,1_000\n"), "line 2: score '1_000' is not a finite number"),
    "one class with two probabilities": (
        dict(train_csv="text,probability:x,probability:x \na,0.5,0.5\n"),
        "more than one column 'probability:x'",
    ),
    "a capital in the first line": (
        dict(train_csv="Text,label\na,x\n"),
        "train.csv: there is no column `text`, but a column `Text`; rename it to `text`",
    ),
    "a capital in a label column": (
        dict(train_csv="text,LABEL\na,x\n"),
        "there is no column `label`, but a column `LABEL`; rename it to `label`",
    ),
    "a capital in JSON": (
        dict(train_jsonl=jsonl({"text": "a", "Label": "x"})),
        "no column `label`, but a column `Label`",
    ),
    "a letter left out": (dict(train_csv="text,lable\na,x\n"), "there is a column `lable`; did you mean `label`"),
    "a pair with another name": (dict(train_csv="text,Text_Pair,label\na,b,x\n"), "rename it to `text_pair`"),
    "another format": (
        dict(train_json="[]"),
        "contains none of train.csv, .* Write train.json in one of these formats",
    ),
}


@pytest.mark.parametrize("case", BAD_LABELS)
def test_bad_labels(case, tmp_path):
    files, message = BAD_LABELS[case]
    with pytest.raises(ValueError, match=message) as caught:
        registry.find_task("mine", write(tmp_path, **files))
    assert str(tmp_path) in str(caught.value)


def test_names_that_only_look_like_lists(tmp_path):
    csv = 'text,label\na,[NEG]\nb,(other)\nc,"a, b"\n'
    assert labels_of(tmp_path, train_csv=csv)[0] == ["(other)", "[NEG]", "a, b"]


def test_examples_know_their_line(tmp_path):
    csv = 'text,label\n"a\nb",x\n\nc,y\n'
    task = registry.find_task("mine", write(tmp_path, train_csv=csv))
    assert [example.location for example in task.read("train")] == [
        f"{tmp_path}/train.csv, line 2",
        f"{tmp_path}/train.csv, line 5",
    ]


def test_imdb():
    task = registry.find_task("imdb", shared("data/rows/imdb/plain_text/aclImdb"))
    train = task.read("train")
    assert {e.label for e in train} == {0, 1}
    assert all(e.id.startswith("pos" if e.label else "neg") for e in train)
    assert {e.label for e in task.read("unsup")} == {None}
    with pytest.raises(ValueError, match="name the folder aclImdb"):
        task.read("sideways")


def test_missing_folders_and_files(tmp_path):
    with pytest.raises(ValueError, match="nowhere does not exist; write --task sst2=FOLDER"):
        registry.find_task("sst2", tmp_path / "nowhere")
    for name in ("squad", "swag", "conll2003"):
        with pytest.raises(ValueError, match=f"{name}: the file train.* is missing in"):
            registry.find_task(name, tmp_path).read("train")
    with pytest.raises(ValueError, match="squad has no split 'sideways'"):
        registry.find_task("squad", tmp_path).read("sideways")
