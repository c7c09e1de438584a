"""A trained output layer is kept where it fits the labels of a task; otherwise the labels that differ are named."""

import dataclasses

import numpy as np
import pytest

from distilbert_jax.cli.main import main
from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.data.tasks.task_types.classification import Classification
from distilbert_jax.data.tasks.task_types.tagging import Tagging
from distilbert_jax.hub import save
from distilbert_jax.hub.load import load_pretrained, parameter_shapes
from distilbert_jax.models import student_init
from distilbert_jax.train.finetune.models import format_label_mismatch, has_common_tags, match_labels, merge_tags


def make_model(folder, labels, *, head="sequence_classification", problem_type=None):
    """Returns a model with a head of random weights for these labels."""
    model = load_pretrained(Pretrained(str(folder)), head=head)
    head_config = dataclasses.replace(model.head_config, labels=tuple(labels), problem_type=problem_type)
    shapes = parameter_shapes(model.config, head, head_config)
    params, _ = student_init.add_missing_params(model.params, shapes, seed=0)
    return dataclasses.replace(model, head_config=head_config, params=params, has_head=True)


def save_model(model, folder):
    save.save_pretrained(
        folder,
        family=model.family,
        config=model.config,
        params=model.params,
        tokenizer=model.tokenizer,
        card="",
        head=model.head,
        head_config=model.head_config,
    )
    return folder


@pytest.mark.parametrize(
    ("model_labels", "task_labels", "order"),
    [
        ("yx", "xy", [1, 0]),
        (["It", "IT", "x"], ["IT", "It", "x"], [1, 0, 2]),  # without letter case, two would be one
        (["X", "Y"], "yx", [1, 0]),
        (["LABEL_0", "LABEL_1"], "yx", [0, 1]),
        (["LABEL_0", "LABEL_1"], ["LABEL_1", "LABEL_0"], [1, 0]),
        (["X", "x"], ["x", "y"], None),
        (["x", "x"], ["x", "y"], None),
        ("xyz", "xy", None),
        ("xy", "xyz", None),
        ("x", "xy", None),
        (["LABEL_0", "LABEL_1"], "xyz", None),
    ],
)
def test_outputs_are_put_into_the_order_of_the_task(shallow_bert_folder, model_labels, task_labels, order):
    model = make_model(shallow_bert_folder, model_labels)
    matched = match_labels(model, Classification(labels=tuple(task_labels), metrics=()))
    assert matched.has_head == (order is not None)
    assert matched.head_config.labels == tuple(task_labels)
    if order is None:
        assert "classifier" not in matched.params
    else:
        expected = model.params["classifier"]["kernel"][:, order]
        np.testing.assert_array_equal(matched.params["classifier"]["kernel"], expected)


@pytest.mark.parametrize("labels", [("similarity",), ("LABEL_0",)])
def test_a_model_with_one_output_gives_a_number(shallow_bert_folder, labels):
    model = make_model(shallow_bert_folder, labels)
    matched = match_labels(model, Classification(labels=(), metrics=()))
    assert matched.has_head
    assert (matched.head_config.labels, matched.head_config.problem_type) == (labels, "regression")
    several = make_model(shallow_bert_folder, "abc")
    assert not match_labels(several, Classification(labels=(), metrics=())).has_head
    assert format_label_mismatch(several, Classification(labels=(), metrics=())) == (
        "the model has 3 outputs (a, b, c), but a number needs only one"
    )


@pytest.mark.parametrize(
    ("model_labels", "task_labels", "message"),
    [
        ("abx", "xyz", "only the model has a, b; only the task has y, z"),
        ("AB", "abc", "only the task has c"),
        ("xx", "xy", "only the task has y"),
        ("xyx", "xy", "the model names its outputs x, y, x, some of them twice"),
        ([str(i) for i in range(12)], "x", "only the model has 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more; only the"),
    ],
)
def test_the_labels_that_differ_are_named(shallow_bert_folder, model_labels, task_labels, message):
    model = make_model(shallow_bert_folder, model_labels)
    actual = format_label_mismatch(model, Classification(labels=tuple(task_labels), metrics=()))
    assert actual.startswith(message)


TASK_TAGS = Tagging(labels=("O", "B-PER", "I-PER", "B-LOC"))


@pytest.mark.parametrize(
    ("tags", "merged"),
    [
        (("I-PER", "O", "b-loc"), ("I-PER", "O", "B-LOC", "B-PER")),
        (("O", "B-MISC", "B-PER"), ("O", "B-MISC", "B-PER", "I-PER", "B-LOC")),
        (("O", "B-MISC"), None),
        (("O", "NOUN", "B-PER"), None),
        (("O", "B-PER", "B-PER"), None),
    ],
)
def test_a_tagging_model_may_lack_tags(shallow_bert_folder, tags, merged):
    model = make_model(shallow_bert_folder, tags, head="token_classification")
    assert has_common_tags(model, TASK_TAGS) == (merged is not None)
    if merged is not None:
        assert merge_tags(model, TASK_TAGS).labels == merged


@pytest.fixture
def sentences(tmp_path):
    folder = tmp_path / "tags"
    folder.mkdir()
    lines = "Ada B-PER\nruns O\n\ntree B-LOC\nruns O\n"
    for name in ("train.txt", "valid.txt"):
        (folder / name).write_text(lines)
    return folder


def test_evaluate_scores_a_model_without_some_tags(shallow_bert_folder, sentences, tmp_path, capsys):
    model = make_model(shallow_bert_folder, ("O", "B-LOC"), head="token_classification")
    folder = save_model(model, tmp_path / "model")
    command = ["evaluate", str(folder), "--task", f"conll2003={sentences}", "--output-dir", str(tmp_path / "out")]
    assert main(command) == 0
    screen = capsys.readouterr().out.replace("\n", " ")
    assert "only the task has I-LOC, B-PER, I-PER. The model never predicts a tag that only the task has" in screen
    (path,) = (tmp_path / "out").iterdir()
    assert {line.split("\t")[2] for line in path.read_text().splitlines() if line} <= {"O", "B-LOC"}


@pytest.fixture
def reviews(tmp_path):
    folder = tmp_path / "reviews"
    folder.mkdir()
    for name in ("train.csv", "dev.csv"):
        (folder / name).write_text("text,label\nthe red dog,pos\nthe old dog,neg\n")
    return folder


def test_other_labels_are_named_by_every_command(shallow_bert_folder, reviews, tmp_path, capsys):
    folder = save_model(make_model(shallow_bert_folder, ("bad", "pos")), tmp_path / "model")
    task = ["--task", f"reviews={reviews}", "--output-dir", str(tmp_path / "out")]
    assert main(["evaluate", str(folder), *task]) == 1
    said = capsys.readouterr().err
    assert "the labels of its sequence_classification head are not those of reviews: only the model has bad" in said
    assert "only the task has neg. Where they mean the same, rename them in id2label" in said
    assert "has no" not in said
    assert main(["finetune", str(folder), *task, "--teacher", str(folder), "epochs=1"]) == 1
    assert "has other labels than reviews (only the model has bad; only the task has neg)" in capsys.readouterr().err
    assert main(["finetune", str(folder), *task, "epochs=1", "max_length=16"]) == 0
    screen = capsys.readouterr().out.replace("\n", " ")
    assert "was trained for other labels (only the model has bad; only the task has neg): classifier." in screen
