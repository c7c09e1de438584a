"""Retention: the ratios, their intervals, and the refusal to compare different settings."""

import json
import re
import statistics

import numpy as np
import pytest

from distilbert_jax.cli.main import main
from distilbert_jax.data.tasks.split_hashes import SplitHashes
from distilbert_jax.evaluate import retention
from distilbert_jax.io import folder_marker
from distilbert_jax.report import retention_table
from distilbert_jax.train.finetune.results import FINETUNE_FORMAT

CONFIG = {"class": "FineTuneConfig", "epochs": 3, "batch_size": 32, "optimizer.learning_rate": 3e-05, "max_length": 128}


@pytest.fixture(autouse=True)
def _fewer_draws(monkeypatch):
    monkeypatch.setattr(retention, "NUM_DRAWS", 200)


TRAIN = SplitHashes(examples=50, ids="a", texts="b", labels="c")


def write(
    folder, task, share, *, seeds=3, size=400, config=CONFIG, positive=0.5, labels=("no", "yes"), train=TRAIN, dev=None
):
    """Writes results of a classifier that is right on about `share` of the examples."""
    gold = (np.arange(size) < positive * size).astype(int)
    for seed in range(seeds):
        random = np.random.default_rng((seed, round(1000 * share)))
        right = random.random(size) < share
        per_example = np.stack([gold, np.where(right, gold, 1 - gold)], axis=1)
        (folder / task / f"seed{seed}").mkdir(parents=True)
        (folder / task / f"seed{seed}" / "per_example.json").write_text(json.dumps({"dev": per_example.tolist()}))
        result = {
            "task": task,
            "seed": seed,
            "format": FINETUNE_FORMAT,
            "main_score": 100 * float(right.mean()),
            "best_epoch": 2,
            "config": {"model.name_or_path": str(folder), **config},
            "task_type": {
                "head": "sequence_classification",
                "problem_type": "single_label_classification",
                "labels": list(labels),
                "metrics": ["accuracy"],
            },
            "parameters": 1_000,
            "sha256": {"model": "0"},
            "examples": {
                "train": train,
                "dev": SplitHashes(examples=size, ids="d", texts="e", labels="f") | (dev or {}),
            },
        }
        (folder / task / f"seed{seed}.json").write_text(json.dumps(result))
    return folder


@pytest.fixture
def folders(tmp_path):
    for task in ("sst2", "rte"):
        write(tmp_path / "teacher", task, 0.9)
        write(tmp_path / "student", task, 0.81)
    return {name: tmp_path / name for name in ("teacher", "student")}


def compare(folders):
    return retention.compute_retention({name: retention.load_results(folder) for name, folder in folders.items()})


def test_retention_is_the_ratio_of_means(folders):
    actual = compare(folders)
    means = {name: statistics.mean(actual.results[name]["rte"].main_scores) for name in folders}
    ratio = actual.ratios["student"]["rte"]
    assert ratio.percent == pytest.approx(100 * means["student"] / means["teacher"])
    assert ratio.low < ratio.percent < ratio.high
    assert 1 < ratio.high - ratio.low < 12  # binomial errors of 400 examples: 1.5 and 2 points
    macro = actual.ratios["student"]["macro"]
    assert macro.high - macro.low < ratio.high - ratio.low


def test_examples_are_paired(tmp_path):
    """A student that gives the same answers as its teacher retains 100 %, without uncertainty."""
    for name in ("teacher", "student"):
        write(tmp_path / name, "rte", 0.9, seeds=1)
    ratio = compare({name: tmp_path / name for name in ("teacher", "student")}).ratios["student"]["rte"]
    assert (ratio.percent, ratio.low, ratio.high) == (100.0, 100.0, 100.0)


def test_above_the_majority_baseline(tmp_path):
    write(tmp_path / "teacher", "rte", 0.9, positive=0.75)
    write(tmp_path / "student", "rte", 0.825, positive=0.75)
    actual = compare({name: tmp_path / name for name in ("teacher", "student")})
    assert actual.majority_baseline == {"rte": 75.0}
    assert actual.ratios["student"]["macro"].percent > 90
    assert 30 < actual.ratios_above_baseline["student"].percent < 70  # 7.5 of 15 points


def test_the_interval_has_its_coverage(tmp_path):
    """About 95 % of the intervals contain the true ratio, which is 0.9."""
    covered = 0
    for trial in range(20):
        folders = {}
        for name, share in (("teacher", 0.9), ("student", 0.81)):
            folders[name] = write(tmp_path / f"{trial}{name}", "rte", share + trial * 1e-9, seeds=3, size=300)
            for seed in range(3):  # another draw of examples in each trial
                path = folders[name] / "rte" / f"seed{seed}" / "per_example.json"
                random = np.random.default_rng((trial, seed, round(100 * share)))
                gold = random.integers(0, 2, 300)
                per_example = np.stack([gold, np.where(random.random(300) < share, gold, 1 - gold)], axis=1)
                path.write_text(json.dumps({"dev": per_example.tolist()}))
        actual = compare(folders).ratios["student"]["rte"]
        covered += actual.low <= 90 <= actual.high
    assert covered >= 16


def test_different_settings_are_not_compared(folders, tmp_path):
    write(tmp_path / "longer", "sst2", 0.8, config=CONFIG | {"epochs": 4})
    write(tmp_path / "longer", "rte", 0.8)
    with pytest.raises(
        ValueError,
        match=r"sst2: teacher and longer were fine-tuned with different settings; fine-tune one of them again:\n"
        r"  epochs: 3 \(teacher\), 4 \(longer\)$",
    ):
        compare({"teacher": folders["teacher"], "longer": tmp_path / "longer"})
    write(tmp_path / "fewer", "rte", 0.8)
    with pytest.raises(ValueError, match="do not have the same tasks; only one of them has sst2"):
        compare({"teacher": folders["teacher"], "fewer": tmp_path / "fewer"})
    for task in ("sst2", "rte"):
        write(tmp_path / "smaller", task, 0.8, size=100)
    with pytest.raises(ValueError, match="not fine-tuned on the same examples"):
        compare({"teacher": folders["teacher"], "smaller": tmp_path / "smaller"})
    with pytest.raises(ValueError, match="nowhere has no results of any task"):
        retention.load_results(tmp_path / "nowhere")


def test_only_settings_of_the_model_may_differ(tmp_path):
    own = {
        "model.revision": "x",
        "random_init": True,
        "teacher.name_or_path": "y",
        "losses.soft.weight": 0.5,
        "task_dir": "z",
    }
    write(tmp_path / "teacher", "rte", 0.9, config=CONFIG | {"random_init": False, "teacher": None})
    write(tmp_path / "student", "rte", 0.8, config=CONFIG | own)
    actual = compare({name: tmp_path / name for name in ("teacher", "student")})
    assert actual.budget == {"rte": CONFIG}
    for number, other in enumerate(
        ("per_device_batch_size", "optimizer.weight_decay", "task_dirs", "window_overlap", "class")
    ):
        write(tmp_path / f"{number}", "rte", 0.8, config=CONFIG | {other: 1})
        with pytest.raises(
            ValueError,
            match=r"were fine-tuned with different settings; fine-tune one of them again:\n"
            rf"  {other}: .* \(teacher\), 1 \({number}\)$",
        ):
            compare({"teacher": tmp_path / "teacher", f"{number}": tmp_path / f"{number}"})


def test_results_of_an_earlier_version_are_refused(folders):
    path = folders["student"] / "rte" / "seed1.json"
    result = json.loads(path.read_text())
    earlier = {"task": "rte", "headline": 81.0, "plan": ["class: FineTune", "epochs: 3"], "form": result["task_type"]}
    path.write_text(json.dumps(earlier))
    message = (
        f"{path} was written by an earlier version of distilbert_jax (format not stated, this version needs 3); to "
        f"fine-tune again, delete {path.parent}, or name another folder with --output-dir"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        compare(folders)


def test_a_claim_is_written_only_if_the_lower_bound_reaches_it(folders, tmp_path):
    def notes(folders):
        return "\n".join(retention_table.make_notes(compare(folders)))

    assert "≥ 97 %" not in notes(folders)
    for task in ("sst2", "rte"):
        write(tmp_path / "twin", task, 0.9)
    assert "twin retains ≥ 97 %" in notes({"teacher": folders["teacher"], "twin": tmp_path / "twin"})


def test_the_command(folders, tmp_path, capsys):
    named = [f"{name}={folder}" for name, folder in folders.items()]
    assert main(["retention", *named, "--output-dir", str(tmp_path / "out")]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "distilbert_jax.json",
        *(f"retention.{x}" for x in ("md", "tex", "json", "png")),
    }
    table = (tmp_path / "out" / "retention.md").read_text()
    assert "| paper: DistilBERT |" in table
    assert "for reference only" in table
    assert "Each task has one setting" in table
    assert r"\%" in (tmp_path / "out" / "retention.tex").read_text()
    for folder in folders.values():
        write(folder, "cola" if folder.name == "teacher" else "mrpc", 0.8)
    assert main(["retention", *named, "--output-dir", str(tmp_path / "all")]) == 1
    assert "do not have the same tasks; only one of them has cola, mrpc" in capsys.readouterr().err
    assert main(["retention", *named, "--task", "rte", "--output-dir", str(tmp_path / "one")]) == 0
    assert "sst2" not in (tmp_path / "one" / "retention.md").read_text()
    assert main(["retention", *named, "--task", "mrpc"]) == 1
    assert "teacher has no results of mrpc" in capsys.readouterr().err
    assert main(["retention", named[0]]) == 1
    assert main(["retention", "teacher", "student"]) == 1
    assert "write NAME=FOLDER" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("dev", "train", "message"),
    [
        ({"texts": "x", "labels": "y"}, {}, "  dev: other texts and labels"),
        ({"labels": "y"}, {}, "  dev: other labels"),
        ({}, {"texts": "x"}, "  train: other texts"),
        ({}, {"examples": 49}, "  train: 50 examples and 49 examples"),
    ],
)
def test_other_examples_are_not_compared(tmp_path, dev, train, message):
    write(tmp_path / "teacher", "rte", 0.9)
    write(tmp_path / "student", "rte", 0.8, dev=dev, train=TRAIN | train)
    with pytest.raises(ValueError, match=f"rte: teacher and student were not fine-tuned on the same .*:\n{message}$"):
        compare({name: tmp_path / name for name in ("teacher", "student")})


def test_a_student_may_be_taught_on_texts_without_labels(tmp_path):
    write(tmp_path / "teacher", "rte", 0.9)
    write(tmp_path / "student", "rte", 0.8, train=TRAIN | {"labels": None})
    assert compare({name: tmp_path / name for name in ("teacher", "student")}).ratios["student"]["rte"].percent > 0


def test_seeds_of_other_examples_are_not_averaged(tmp_path):
    write(tmp_path / "a", "rte", 0.9)
    write(tmp_path / "b", "rte", 0.9, dev={"labels": "y"})
    path = tmp_path / "a" / "rte" / "seed1.json"
    path.write_bytes((tmp_path / "b" / "rte" / "seed1.json").read_bytes())
    with pytest.raises(ValueError, match=rf"^{path} holds results of (.|\n)*now$"):
        retention.load_results(tmp_path / "a")


def test_per_example_numbers_of_another_split_are_refused(tmp_path):
    write(tmp_path / "a", "rte", 0.9)
    path = tmp_path / "a" / "rte" / "seed0" / "per_example.json"
    path.write_text(json.dumps({"dev": json.loads(path.read_text())["dev"][:-1]}))
    with pytest.raises(ValueError, match="dev has 399 examples, but its result states others"):
        retention.load_results(tmp_path / "a")


def test_a_ratio_that_is_not_defined_is_a_dash_and_null(tmp_path):
    """Here the teacher is worse than the majority baseline."""
    write(tmp_path / "teacher", "rte", 0.3)
    write(tmp_path / "student", "rte", 0.8)
    folders = {name: tmp_path / name for name in ("teacher", "student")}
    named = [f"{name}={folder}" for name, folder in folders.items()]
    assert main(["retention", *named, "--output-dir", str(tmp_path / "out")]) == 0

    def refuse_constant(name):
        raise AssertionError(f"{name} is no JSON")

    stored = json.loads((tmp_path / "out" / "retention.json").read_text(), parse_constant=refuse_constant)
    assert stored["kept_above_commonest_answer"]["student"] == {"percent": None, "low": None, "high": None}
    table = (tmp_path / "out" / "retention.md").read_text()
    assert "nan" not in table
    assert "| – |" in table
    assert "| rte (accuracy) |" in table


def test_a_folder_of_the_user_and_another_comparison_are_not_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "retention.md").write_text("mine")
    command = ["retention", f"teacher={tmp_path}/a", f"student={tmp_path}/b", "--output-dir"]
    assert main([*command, str(tmp_path / "mine")]) == 1
    assert (tmp_path / "mine" / "retention.md").read_text() == "mine"
    models = {"teacher": f"{tmp_path}/a", "student": f"{tmp_path}/c"}
    folder_marker.write_marker(tmp_path / "other", "retention", made_from={"models": models})
    with pytest.raises(ValueError, match=f"holds the comparison of teacher={tmp_path}/a, student={tmp_path}/c; name"):
        retention_table.write_retention({"teacher": tmp_path / "a", "student": tmp_path / "b"}, tmp_path / "other")
