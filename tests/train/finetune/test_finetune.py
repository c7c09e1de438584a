"""Fine-tuning: it learns, resumes exactly, distils a fine-tuned teacher, and refuses what does not fit."""

import csv
import dataclasses
import json
import os
import re
import shutil
import signal

import jax
import numpy as np
import pytest

from distilbert_jax import log_keys
from distilbert_jax.cli.main import main
from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.config.experiment_file import flatten, is_within
from distilbert_jax.config.finetune import BUDGET_FIELDS, MODEL_FIELDS, RESUMABLE_FIELDS, default_finetune_config
from distilbert_jax.data.tasks import registry
from distilbert_jax.devices.mesh import make_mesh
from distilbert_jax.evaluate.task import evaluate
from distilbert_jax.hub.load import load_pretrained
from distilbert_jax.runtime import metrics_log
from distilbert_jax.runtime.stop_signal import RunStopped
from distilbert_jax.train.finetune import loop as tuned
from distilbert_jax.train.finetune import models, setup
from distilbert_jax.train.finetune.results import CONFIG_FILE
from tests.reliability import harness

RANDOM = np.random.default_rng(0)
NOUNS = ("bird", "cat", "dog", "stone", "tree")


def sentences(count):
    """Texts with a `red` or a `green` in them, and which."""
    for _ in range(count):
        color = RANDOM.choice(["red", "green"])
        words = ["the", RANDOM.choice(NOUNS), "sees", "a", color, RANDOM.choice(NOUNS)]
        yield " ".join(words[: RANDOM.integers(5, 7)]), color


@pytest.fixture(scope="module")
def colors(tmp_path_factory):
    """A task that a tiny model can learn."""
    folder = tmp_path_factory.mktemp("colors")
    for split, count in (("train", 96), ("dev", 40)):
        with open(folder / f"{split}.csv", "w", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *sentences(count)])
    return registry.find_task("colors", folder), str(folder)


def plan_of(task, model, **changes):
    task, folder = task
    plan = default_finetune_config(
        task, task_dir=folder, model=Pretrained(str(model)), teacher=changes.pop("teacher", None)
    )
    optimizer = dataclasses.replace(plan.optimizer, learning_rate=changes.pop("learning_rate", 2e-3))
    return dataclasses.replace(
        plan, **{"optimizer": optimizer, "epochs": 5, "batch": 8, "max_length": 16, "dropout": 0.0, **changes}
    )


@pytest.fixture(scope="module")
def learner(distilbert_folder, tmp_path_factory):
    """Random weights large enough that a text makes a difference, and LayerNorms as they start in life."""
    return harness.learner(tmp_path_factory.mktemp("models") / "learner", distilbert_folder)


@pytest.fixture(scope="module")
def whole(colors, learner, tmp_path_factory):
    """(plan, folder, results) of two seeds that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    plan = plan_of(colors, learner)
    return plan, folder, tuned.finetune(plan, colors[0], folder=folder, seeds=2)


def test_it_learns_and_says_what_it_did(whole, colors):
    _, folder, results = whole
    for seed, result in enumerate(results):
        assert result["seed"] == seed
        assert result["main_score"] == max(result["epochs"]) > 90
        assert result["epochs"][result["best_epoch"] - 1] == result["main_score"]
        assert result["train_examples"] == 96
        assert result["dev_examples"] == {"dev": 40}
        assert result["compiled_for_lengths"] == [8]
        units = np.array(json.loads((folder / f"seed{seed}" / "per_example.json").read_text())["dev"])
        assert 100 * (units[:, 0] == units[:, 1]).mean() == pytest.approx(result["scores"]["dev/accuracy"])
    first, second = (
        [entry["loss"] for entry in metrics_log.read_log(folder / f"seed{seed}", "train")] for seed in (0, 1)
    )
    assert first != second


def test_the_kept_model_is_that_of_the_best_epoch(whole, colors, tmp_path):
    _, folder, results = whole
    got = evaluate(Pretrained(str(folder / "seed0" / "model")), colors[0], split="dev", into=tmp_path)
    assert got["accuracy"] == pytest.approx(results[0]["scores"]["dev/accuracy"])
    lines = (tmp_path / "colors-dev.tsv").read_text().splitlines()
    assert lines[0] == "index\tprediction"
    assert {line.split("\t")[1] for line in lines[1:]} == {"red", "green"}


def test_a_second_call_reads_what_is_there(whole, colors):
    plan, folder, results = whole
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}
    assert tuned.finetune(plan, colors[0], folder=folder, seeds=2) == results
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")} == before


def test_another_config_is_refused(whole, colors):
    plan, folder, _ = whole
    with pytest.raises(ValueError, match="another config(.|\n)*  epochs: 5 there, 4 wanted$"):
        tuned.finetune(dataclasses.replace(plan, epochs=4), colors[0], folder=folder, seeds=2)


def test_rows_per_device_may_change_on_the_way(whole, colors):
    plan, folder, results = whole
    assert (
        tuned.finetune(dataclasses.replace(plan, per_device_batch_size=16), colors[0], folder=folder, seeds=2)
        == results
    )


def test_the_named_fields_are_fields(whole):
    plan, _, _ = whole
    config = flatten(plan)
    assert all(any(is_within(path, [field]) for path in config) for field in (*MODEL_FIELDS, *RESUMABLE_FIELDS))
    assert set(BUDGET_FIELDS) <= config.keys()


@pytest.mark.parametrize("left", ["config.json", "seed0.json", "checkpoints"])
def test_a_folder_of_an_earlier_version_is_refused(whole, colors, tmp_path, left):
    """It stated no format: a finished seed, and one that was interrupted, beside the plan.txt of then."""
    plan, _, _ = whole
    (tmp_path / "plan.txt").write_text("class: FineTune\nepochs: 5\n")
    path = tmp_path
    if left == "checkpoints":
        (tmp_path / "seed0" / "checkpoints").mkdir(parents=True)
        (tmp_path / "seed0" / "checkpoints" / "10.sha256").write_text("{}")
    elif left == "seed0.json":
        (tmp_path / left).write_text(json.dumps({"task": "colors", "headline": 90.0, "best_epoch": 1, "plan": []}))
    else:
        path = tmp_path / left
        path.write_text(json.dumps({"config": flatten(plan), "sha256": {}}))
    message = (
        f"{path} was written by an earlier version of distilbert_jax (format not stated, this version needs 2); to "
        f"fine-tune again, delete {tmp_path}, or name another folder with --output-dir"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        tuned.finetune(plan, colors[0], folder=tmp_path, seeds=1)


def test_one_result_of_an_earlier_version_is_refused(whole, colors, tmp_path):
    """Also where the folder itself is of today."""
    plan, folder, _ = whole
    shutil.copytree(folder, tmp_path / "results")
    path = tmp_path / "results" / "seed0.json"
    path.write_text(json.dumps({"task": "colors", "headline": 90.0, "best_epoch": 1, "plan": []}))
    with pytest.raises(ValueError, match=f"^{path} was written by an earlier version of distilbert_jax"):
        tuned.finetune(plan, colors[0], folder=tmp_path / "results", seeds=2)


def test_every_logged_number_has_its_key(whole):
    _, folder, _ = whole
    for kind, keys in (("train", log_keys.TRAIN_KEYS), ("eval", log_keys.FINETUNE_EVAL_KEYS)):
        for entry in metrics_log.read_log(folder / "seed0", kind):
            unknown = [name for name in entry if name not in ("kind", "step") and not log_keys.find(name, keys)]
            assert not unknown


def test_other_weights_in_the_same_folder_are_refused(whole, colors, tmp_path):
    plan, folder, _ = whole
    shutil.copytree(folder, tmp_path / "results")
    (tmp_path / "results" / "seed1.json").unlink()
    path = tmp_path / "results" / CONFIG_FILE
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | {"sha256": {"model": "0" + stored["sha256"]["model"]}}))
    with pytest.raises(ValueError, match="another config(.|\n)*sha256.model: 0.* there, .* wanted$"):
        tuned.finetune(plan, colors[0], folder=tmp_path / "results", seeds=2)


@pytest.mark.parametrize("at", [5, 10, 12, 13])  # within an epoch, in a step that is logged, at its end, after it
def test_it_goes_on_exactly(at, whole, colors, tmp_path, monkeypatch, prove):
    if at in (5, 12) and not prove:
        pytest.skip("in `make prove`; 10 and 13 are a step that is logged and one that is none")
    plan, folder, results = whole
    logged = lambda folder: [
        {name: value for name, value in entry.items() if name not in harness.TIMED}
        for kind in ("train", "eval")
        for entry in metrics_log.read_log(folder / "seed0", kind)
    ]
    meter_after = tuned.StepMonitor.after

    def after(self, step, *rest, **named):
        meter_after(self, step, *rest, **named)
        if step == at:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(tuned.StepMonitor, "after", after)
        with pytest.raises(RunStopped, match=f"after step {at}"):
            tuned.finetune(plan, colors[0], folder=tmp_path, seeds=1)
    assert tuned.finetune(plan, colors[0], folder=tmp_path, seeds=1) == results[:1]
    assert logged(tmp_path) == logged(folder)


def test_a_teacher_teaches_texts_without_labels(whole, colors, learner, tmp_path):
    _, folder, _ = whole
    data = tmp_path / "colors"
    shutil.copytree(colors[1], data)
    texts = [text for text, _ in sentences(96)]
    (data / "train.csv").write_text(
        "text,label\n" + "".join(f"{text},\n" for text in texts) + "a red dog,red\na green dog,green\n"
    )
    task = registry.find_task("colors", data)
    plan = plan_of((task, str(data)), learner)
    with pytest.raises(ValueError, match="cannot be learned from without --teacher"):
        tuned.finetune(plan, task, folder=tmp_path / "alone", seeds=1)
    teacher = Pretrained(str(folder / "seed0" / "model"))
    plan = plan_of((task, str(data)), learner, teacher=teacher)
    assert {name: type(loss).__name__ for name, loss in plan.losses.items()} == {
        "hard": "HardTargets",
        "soft": "SoftTargets",
    }
    (result,) = tuned.finetune(plan, task, folder=tmp_path / "taught", seeds=1)
    assert result["main_score"] > 90


def test_a_teacher_without_the_head_is_refused(colors, learner, tmp_path):
    plan = plan_of(colors, learner, teacher=Pretrained(str(learner)))
    with pytest.raises(ValueError, match="no sequence_classification head(.|\n)*distilbert_jax finetune"):
        tuned.finetune(plan, colors[0], folder=tmp_path, seeds=1)


def test_hidden_states_beside_the_soft_loss(whole, colors, learner, tmp_path, capsys):
    _, folder, _ = whole
    command = [
        *("finetune", str(learner), "--task", f"colors={colors[1]}", "--teacher", str(folder / "seed0" / "model")),
        *("--hidden-loss", "cosine", "--hidden-loss", "hidden_mse", "--output-dir", str(tmp_path)),
        *("epochs=1", "batch=8", "max_length=16", "losses.hidden_mse.weight=0.1"),
    ]
    assert main(command) == 0
    first = metrics_log.read_log(tmp_path / "colors" / "seed0", "train")[0]
    assert first["loss/cosine"] > 0
    assert first["loss/hidden_mse"] > 0
    assert first["loss"] > 0.5 * (first["loss/hard"] + first["loss/soft"]) + first["loss/cosine"]
    command[command.index("--output-dir") + 1] = str(tmp_path / "other")
    assert main([*command, "losses.hidden_mse.layers=(1, 9)"]) == 1
    assert "Write one of the teacher's layers" in capsys.readouterr().err
    assert main([argument for argument in command if "seed0/model" not in argument and argument != "--teacher"]) == 1
    assert "losses.cosine compares with a teacher, but there is none" in capsys.readouterr().err


def test_a_random_start_takes_the_shape_alone(colors, learner, tmp_path):
    """Every seed draws all weights anew: none of the model's is left, and no two seeds are the same."""
    turned = setup.setup_finetuning(plan_of(colors, learner, random_init=True), colors[0])
    weights = load_pretrained(Pretrained(str(learner)), head=colors[0].form.head).params["encoder"]
    started = [jax.device_get(turned.init_state(seed).params["student"]) for seed in (0, 1)]
    for there, one, other in zip(*map(jax.tree.leaves, (weights, *(s["encoder"] for s in started))), strict=True):
        assert there.shape == one.shape
        assert np.array_equal(one, other) == bool((one == one.flat[0]).all())  # biases zero, scales one
        assert not np.array_equal(there, one) or (one == one.flat[0]).all()
    assert (started[0]["encoder"]["norm"]["scale"] == 1).all()
    assert 0.01 < started[0]["encoder"]["words"]["embedding"].std() < 0.03
    plan = plan_of(colors, learner, random_init=True, epochs=1)
    tuned.finetune(plan, colors[0], folder=tmp_path, seeds=1)
    card = (tmp_path / "seed0" / "model" / "README.md").read_text()
    assert "Random weights in the shape of" in card


def test_a_sample_is_the_same_for_everyone(colors, learner):
    one, other = (setup.setup_finetuning(plan_of(colors, learner, examples=10, epochs=n), colors[0]) for n in (1, 2))
    assert list(one.train.examples) == list(other.train.examples)
    assert len(one.train.examples) == 10
    assert [e for e in colors[0].read("train") if e in one.train.examples] == list(one.train.examples)


def test_labels_in_another_order_are_put_in_order(whole, colors):
    _, folder, _ = whole
    form = colors[0].form
    model = load_pretrained(Pretrained(str(folder / "seed0" / "model")), head=form.head)
    turned = dataclasses.replace(
        model,
        head_config=dataclasses.replace(model.head_config, labels=("RED", "GREEN")),
        params={**model.params, "classifier": {name: x[..., ::-1] for name, x in model.params["classifier"].items()}},
    )
    again = models.match_labels(turned, form)
    np.testing.assert_array_equal(again.params["classifier"]["kernel"], model.params["classifier"]["kernel"])
    other = dataclasses.replace(model, head_config=dataclasses.replace(model.head_config, labels=("a", "b")))
    assert not models.match_labels(other, form).has_head


def test_devices_change_nothing(colors, learner):
    """Gradients of one device and of eight: the loss of the first steps, dropout included."""
    losses = []
    for devices in (1, 8):
        plan = plan_of(colors, learner, batch=6)
        with pytest.MonkeyPatch.context() as patched:
            mesh = make_mesh(devices=jax.devices()[:devices])
            patched.setattr(setup, "make_mesh", lambda mesh=mesh: mesh)
            turned = setup.setup_finetuning(plan, colors[0])
        state = turned.init_state(0)
        batch = next(
            tuned.TaskBatches(rows=turned.train.encoded.rows, seed=0, batch_size=6, layout=turned.layout).epoch(0)
        )
        _, metrics = turned.train_step(state, {}, tuned.Batch(**tuned.put_batch(batch, turned.mesh)), 0)
        losses.append((float(metrics["loss"]), float(metrics["grad_norm"])))
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_a_signal_in_the_last_step_of_a_seed_is_heeded(whole, colors, tmp_path, monkeypatch):
    """Its result is written, the next seed is not begun, and the same call goes on with that."""
    plan, _, results = whole
    meter_after = tuned.StepMonitor.after

    def after(self, step, *rest, **named):
        meter_after(self, step, *rest, **named)
        if step == 5 * 96 // 8:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(tuned.StepMonitor, "after", after)
        with pytest.raises(RunStopped, match="after step 60"):
            tuned.finetune(plan, colors[0], folder=tmp_path, seeds=2)
    assert (tmp_path / "seed0.json").exists()
    assert not (tmp_path / "seed1").exists()
    assert tuned.finetune(plan, colors[0], folder=tmp_path, seeds=2) == results
    assert not list(tmp_path.glob("seed?/checkpoints"))
