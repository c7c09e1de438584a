"""What is kept, how sure that is, and that unlike things are not compared."""

import json
import re
import statistics

import numpy as np
import pytest

from distilbert_jax.cli.main import main
from distilbert_jax.evaluate import retention
from distilbert_jax.report import retention_table
from distilbert_jax.train.finetune.results import FINETUNE_FORMAT

CONFIG = {"class": "FineTune", "epochs": 3, "batch_size": 32, "optimizer.learning_rate": 3e-05, "max_length": 128}


@pytest.fixture(autouse=True)
def _fewer_draws(monkeypatch):
    monkeypatch.setattr(retention, "DRAWS", 200)


def write(folder, task, share, *, seeds=3, size=400, config=CONFIG, positive=0.5, labels=("no", "yes")):
    """Results of a classifier that is right on about `share` of the examples."""
    gold = (np.arange(size) < positive * size).astype(int)
    for seed in range(seeds):
        random = np.random.default_rng((seed, round(1000 * share)))
        right = random.random(size) < share
        units = np.stack([gold, np.where(right, gold, 1 - gold)], axis=1)
        (folder / task / f"seed{seed}").mkdir(parents=True)
        (folder / task / f"seed{seed}" / "per_example.json").write_text(json.dumps({"dev": units.tolist()}))
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
            "dev_examples": {"dev": size},
            "train_examples": 50,
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


def test_kept_is_the_ratio_of_means(folders):
    got = compare(folders)
    means = {name: statistics.mean(got.results[name]["rte"].main_scores) for name in folders}
    kept = got.kept["student"]["rte"]
    assert kept.percent == pytest.approx(100 * means["student"] / means["teacher"])
    assert kept.low < kept.percent < kept.high
    assert 1 < kept.high - kept.low < 12  # binomial errors of 400 examples: 1.5 and 2 points
    macro = got.kept["student"]["macro"]
    assert macro.high - macro.low < kept.high - kept.low


def test_examples_are_paired(tmp_path):
    """A student that gives its teacher's very answers keeps everything, for certain."""
    for name in ("teacher", "student"):
        write(tmp_path / name, "rte", 0.9, seeds=1)
    kept = compare({name: tmp_path / name for name in ("teacher", "student")}).kept["student"]["rte"]
    assert (kept.percent, kept.low, kept.high) == (100.0, 100.0, 100.0)


def test_above_the_commonest_answer(tmp_path):
    write(tmp_path / "teacher", "rte", 0.9, positive=0.75)
    write(tmp_path / "student", "rte", 0.825, positive=0.75)
    got = compare({name: tmp_path / name for name in ("teacher", "student")})
    assert got.majority_baseline == {"rte": 75.0}
    assert got.kept["student"]["macro"].percent > 90
    assert 30 < got.kept_above_floor["student"].percent < 70  # 7.5 of 15 points


def test_the_interval_holds_what_it_says(tmp_path):
    """Of many tables with a true ratio of 0.9, about 95 % of the intervals hold it."""
    held = 0
    for trial in range(20):
        folders = {}
        for name, share in (("teacher", 0.9), ("student", 0.81)):
            folders[name] = write(tmp_path / f"{trial}{name}", "rte", share + trial * 1e-9, seeds=3, size=300)
            for seed in range(3):  # another draw of examples in each trial
                path = folders[name] / "rte" / f"seed{seed}" / "per_example.json"
                random = np.random.default_rng((trial, seed, round(100 * share)))
                gold = random.integers(0, 2, 300)
                units = np.stack([gold, np.where(random.random(300) < share, gold, 1 - gold)], axis=1)
                path.write_text(json.dumps({"dev": units.tolist()}))
        got = compare(folders).kept["student"]["rte"]
        held += got.low <= 90 <= got.high
    assert held >= 16


def test_unlike_things_are_not_compared(folders, tmp_path):
    write(tmp_path / "longer", "sst2", 0.8, config=CONFIG | {"epochs": 4})
    write(tmp_path / "longer", "rte", 0.8)
    with pytest.raises(
        ValueError, match=r"sst2: teacher and longer were not fine-tuned alike:\n  epochs: 3 \(teacher\), 4 \(longer\)$"
    ):
        compare({"teacher": folders["teacher"], "longer": tmp_path / "longer"})
    write(tmp_path / "fewer", "rte", 0.8)
    with pytest.raises(ValueError, match="not the same tasks: sst2"):
        compare({"teacher": folders["teacher"], "fewer": tmp_path / "fewer"})
    for task in ("sst2", "rte"):
        write(tmp_path / "smaller", task, 0.8, size=100)
    with pytest.raises(ValueError, match="not fine-tuned on the same examples"):
        compare({"teacher": folders["teacher"], "smaller": tmp_path / "smaller"})
    with pytest.raises(ValueError, match="no results"):
        retention.load_results(tmp_path / "nowhere")


def test_models_may_differ_in_what_they_are_and_in_nothing_else(tmp_path):
    own = {
        "model.revision": "x",
        "random_init": True,
        "teacher.name_or_path": "y",
        "losses.soft.weight": 0.5,
        "task_dir": "z",
    }
    write(tmp_path / "teacher", "rte", 0.9, config=CONFIG | {"random_init": False, "teacher": None})
    write(tmp_path / "student", "rte", 0.8, config=CONFIG | own)
    got = compare({name: tmp_path / name for name in ("teacher", "student")})
    assert got.budget == {"rte": CONFIG}
    for number, other in enumerate(
        ("per_device_batch_size", "optimizer.weight_decay", "task_dirs", "window_overlap", "class")
    ):
        write(tmp_path / f"{number}", "rte", 0.8, config=CONFIG | {other: 1})
        with pytest.raises(ValueError, match=rf"not fine-tuned alike:\n  {other}: .* \(teacher\), 1 \({number}\)$"):
            compare({"teacher": tmp_path / "teacher", f"{number}": tmp_path / f"{number}"})


def test_results_of_an_earlier_version_are_refused(folders):
    path = folders["student"] / "rte" / "seed1.json"
    result = json.loads(path.read_text())
    earlier = {"task": "rte", "headline": 81.0, "plan": ["class: FineTune", "epochs: 3"], "form": result["task_type"]}
    path.write_text(json.dumps(earlier))
    message = (
        f"{path} was written by an earlier version of distilbert_jax (format not stated, this version needs 2); to "
        f"fine-tune again, delete {path.parent}, or name another folder with --output-dir"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        compare(folders)


def test_a_claim_is_written_only_where_it_holds(folders, tmp_path):
    said = lambda folders: "\n".join(retention_table.notes(compare(folders)))
    assert "≥ 97 %" not in said(folders)
    for task in ("sst2", "rte"):
        write(tmp_path / "twin", task, 0.9)
    assert "twin keeps ≥ 97 %" in said({"teacher": folders["teacher"], "twin": tmp_path / "twin"})


def test_the_command(folders, tmp_path, capsys):
    named = [f"{name}={folder}" for name, folder in folders.items()]
    assert main(["retention", *named, "--output-dir", str(tmp_path / "out")]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"retention.{x}" for x in ("md", "tex", "json", "png")
    }
    table = (tmp_path / "out" / "retention.md").read_text()
    assert "| paper: DistilBERT |" in table
    assert "for reference only" in table
    assert "One setting a task" in table
    assert r"\%" in (tmp_path / "out" / "retention.tex").read_text()
    for folder in folders.values():
        write(folder, "cola" if folder.name == "teacher" else "mrpc", 0.8)
    assert main(["retention", *named, "--output-dir", str(tmp_path / "all")]) == 1
    assert "have not the same tasks: cola, mrpc" in capsys.readouterr().err
    assert main(["retention", *named, "--task", "rte", "--output-dir", str(tmp_path / "one")]) == 0
    assert "sst2" not in (tmp_path / "one" / "retention.md").read_text()
    assert main(["retention", *named, "--task", "mrpc"]) == 1
    assert "teacher: no results of mrpc" in capsys.readouterr().err
    assert main(["retention", named[0]]) == 1
    assert main(["retention", "teacher", "student"]) == 1
    assert "write NAME=FOLDER" in capsys.readouterr().err
