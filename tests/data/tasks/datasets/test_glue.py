"""The irregularities of GLUE's files, and the metrics in their special cases."""

import numpy as np
import pytest

from distilbert_jax.data.tasks import metrics
from distilbert_jax.data.tasks.datasets import glue
from distilbert_jax.data.tasks.examples import Example
from tests.conftest import shared

SIZES = {  # of the files in the repository's data: (train, dev)
    "cola": (8_551, 1_043),
    "sst2": (67_349, 872),
    "mrpc": (3_668, 408),
    "stsb": (5_749, 1_500),
    "rte": (2_490, 277),
    "wnli": (635, 71),
}


@pytest.mark.parametrize("name", SIZES)
def test_the_released_files(name):
    task = glue.TASKS[name]
    folder = shared(f"data/tasks/glue/{task.folder}")
    for split, size in zip(("train", "dev"), SIZES[name], strict=True):
        examples = task.read(folder, split)
        assert len(examples) == size
        assert all(len(example.texts) == len(task.columns) - 1 and all(example.texts) for example in examples)
        labels = {example.label for example in examples}
        assert labels == set(range(len(task.labels))) if task.labels else min(labels) >= 0 and max(labels) == 5


ROWS = {  # name: (folder of the rows, split, an example of it)
    "cola": ("cola/CoLA", "dev", 1, ("The sailors rode the breeze clear of the rocks.",)),
    "sst2": ("sst2/SST-2", "train", 0, ("hide new secretions from the parental units ",)),
    "mrpc": ("mrpc/MRPC", "dev", None, None),  # its header starts with the letters BOM
    "qqp": ("qqp/QQP", "train", 0, None),
    "stsb": ("stsb/SST-B", "train", 5.0, ("A plane is taking off.", "An air plane is taking off.")),
    "mnli": ("mnli/MNLI", "dev_mismatched", None, None),
    "qnli": ("qnli/QNLI", "train", 1, None),
    "rte": ("rte/RTE", "train", 1, None),
    "wnli": ("wnli/WNLI", "train", 1, None),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_of_every_layout(name):
    where, split, label, texts = ROWS[name]
    task = glue.TASKS[name]
    folder = shared(f"data/rows/glue/{where}")
    first = task.read(folder, split)[0]
    assert label is None or first.label == label
    assert texts is None or first.texts == texts
    test = "test_matched" if name == "mnli" else "test"
    assert {example.label for example in task.read(folder, test)} == {None}


def test_mrpcs_byte_order_mark(tmp_path):
    header = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
    (tmp_path / "msr_paraphrase_train.txt").write_text(header + '1\t7\t8\ta "b\tb\n', encoding="utf-8-sig")
    example = Example(id="0", texts=('a "b', "b"), label=1)
    assert glue.TASKS["mrpc"].read(tmp_path, "train") == [example]


def test_mrpcs_dev_pairs_are_no_training_pairs():
    folder = shared("data/rows/glue/mrpc/MRPC")
    splits = [{example.texts for example in glue.TASKS["mrpc"].read(folder, split)} for split in ("train", "dev")]
    assert not splits[0] & splits[1]
    assert splits[1]
    assert any('"' in text for split in splits for texts in split for text in texts)  # stray quotes mean nothing


def test_the_diagnostic_set():
    example = glue.TASKS["ax"].read(shared("data/rows/glue/ax"), "ax")[0]
    assert example == Example(id="0", texts=("The cat sat on the mat.", "The cat did not sit on the mat."), label=None)


BAD = {
    "an unknown label": ("sentence\tlabel\nfine\t1\nodd\tmaybe\n", "line 3: the label 'maybe' is not one of neg"),
    "a label too many": ("sentence\tlabel\nfine\t2\n", "line 2: the label '2' is not one of negative, positive"),
    "a label below": ("sentence\tlabel\nfine\t-1\n", "the label '-1' is not one of negative, positive"),
    "unequal columns": ("sentence\tlabel\nfine\t1\tmore\n", "line 2: 3 columns, but the header has 2"),
    "no column": ("text\tlabel\nfine\t1\n", "there is no column 'sentence', only text, label"),
    "empty": ("sentence\tlabel\n", "the file has no examples"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(tmp_path, name):
    content, message = BAD[name]
    (tmp_path / "dev.tsv").write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        glue.TASKS["sst2"].read(tmp_path, "dev")
    assert str(tmp_path / "dev.tsv") in str(caught.value)
    with pytest.raises(ValueError, match=r"has no file train\.tsv"):
        glue.TASKS["sst2"].read(tmp_path, "train")


def test_broken_rows_of_qqp_are_left_out(tmp_path):
    lines = ["id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", "1\t2\t3\ta\tb\t1", "1\t2\tbroken"]
    (tmp_path / "train.tsv").write_text("\n".join(lines))
    assert [example.texts for example in glue.TASKS["qqp"].read(tmp_path, "train")] == [("a", "b")]


def by_hand(name, y, p):
    """Straight from the formulas, in float64; 0 where one is not defined."""
    y, p = np.asarray(y, float), np.asarray(p, float)
    if name == "accuracy":
        return (y == p).mean()
    both, one, other = ((y == 1) & (p == 1)).sum(), (y == 1).sum(), (p == 1).sum()
    if name == "f1":
        return 2 * both / (one + other) if one + other else 0.0
    if name == "spearman_correlation":  # ties share their mean rank
        y, p = (np.array([(x < v).sum() + ((x == v).sum() - 1) / 2 for v in x]) for x in (y, p))
    deviation = (y - y.mean(), p - p.mean())
    scale = np.sqrt((deviation[0] ** 2).sum() * (deviation[1] ** 2).sum())
    return (deviation[0] * deviation[1]).sum() / scale if scale else 0.0


@pytest.mark.parametrize(
    "name", ["accuracy", "f1", "matthews_correlation", "pearson_correlation", "spearman_correlation"]
)
@pytest.mark.parametrize("kind", ["random", "all one class", "all the other", "one label only", "ties"])
def test_metrics(name, kind):
    random = np.random.default_rng(0)
    y, p = random.integers(0, 2, (2, 50))
    y, p = {
        "random": (y, p),
        "all one class": (y, p * 0),
        "all the other": (y, p * 0 + 1),
        "one label only": (y * 0, p),
        "ties": (random.integers(0, 4, 50), random.integers(0, 4, 50)),
    }[kind]
    if kind == "ties" and name in ("f1", "matthews_correlation"):
        y, p = y % 2, p % 2
    assert getattr(metrics, name)(y.tolist(), p.tolist()) == pytest.approx(by_hand(name, y, p), abs=1e-12)
