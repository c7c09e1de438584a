"""Fine-tuning learns, resumes exactly, distils a fine-tuned teacher, and refuses models and tasks that do not fit."""

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
from distilbert_jax.train.finetune import loop, models, setup
from distilbert_jax.train.finetune.results import CONFIG_FILE, FINETUNE_FORMAT
from tests.reliability import harness

RANDOM = np.random.default_rng(0)
NOUNS = ("bird", "cat", "dog", "stone", "tree")


def sentences(count):
    """Yields texts that contain "red" or "green", and which of them."""
    for _ in range(count):
        color = RANDOM.choice(["red", "green"])
        words = ["the", RANDOM.choice(NOUNS), "sees", "a", color, RANDOM.choice(NOUNS)]
        yield " ".join(words[: RANDOM.integers(5, 7)]), color


@pytest.fixture(scope="module")
def colors(tmp_path_factory):
    """A task that a tiny model can learn, and its folder."""
    folder = tmp_path_factory.mktemp("colors")
    for split, count in (("train", 96), ("dev", 40)):
        with open(folder / f"{split}.csv", "w", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *sentences(count)])
    return registry.find_task("colors", folder), str(folder)


def make_config(task, model, **changes):
    task, folder = task
    config = default_finetune_config(
        task, task_dir=folder, model=Pretrained(str(model)), teacher=changes.pop("teacher", None)
    )
    optimizer = dataclasses.replace(config.optimizer, learning_rate=changes.pop("learning_rate", 2e-3))
    return dataclasses.replace(
        config, **{"optimizer": optimizer, "epochs": 5, "batch_size": 8, "max_length": 16, "dropout": 0.0, **changes}
    )


@pytest.fixture(scope="module")
def learner(shallow_distilbert_folder, tmp_path_factory):
    """Random weights in which the text makes a difference, and LayerNorms at their initial values."""
    return harness.learner(tmp_path_factory.mktemp("models") / "learner", shallow_distilbert_folder)


@pytest.fixture(scope="module")
def uninterrupted(colors, learner, tmp_path_factory):
    """Returns the config, the folder and the results of two seeds that nothing interrupted."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    config = make_config(colors, learner)
    return config, folder, loop.finetune(config, colors[0], folder=folder, seeds=2)


def test_it_learns_and_reports_what_it_did(uninterrupted, colors):
    _, folder, results = uninterrupted
    for seed, result in enumerate(results):
        assert result["seed"] == seed
        assert result["main_score"] == max(result["epochs"]) > 90
        assert result["epochs"][result["best_epoch"] - 1] == result["main_score"]
        assert result["train_examples"] == 96
        assert result["dev_examples"] == {"dev": 40}
        assert result["compiled_for_lengths"] == [8]
        numbers = np.array(json.loads((folder / f"seed{seed}" / "per_example.json").read_text())["dev"])
        assert 100 * (numbers[:, 0] == numbers[:, 1]).mean() == pytest.approx(result["scores"]["dev/accuracy"])
    first, second = (
        [entry["loss"] for entry in metrics_log.read_log(folder / f"seed{seed}", "train")] for seed in (0, 1)
    )
    assert first != second


def test_the_saved_model_is_that_of_the_best_epoch(uninterrupted, colors, tmp_path):
    _, folder, results = uninterrupted
    scores = evaluate(Pretrained(str(folder / "seed0" / "model")), colors[0], split="dev", output_dir=tmp_path)
    assert scores["accuracy"] == pytest.approx(results[0]["scores"]["dev/accuracy"])
    (path,) = tmp_path.glob("*seed0-model-colors-dev-*.tsv")
    lines = path.read_text().splitlines()
    assert lines[0] == "index\tprediction"
    assert {line.split("\t")[1] for line in lines[1:]} == {"red", "green"}


def test_a_second_call_reads_the_existing_results(uninterrupted, colors):
    config, folder, results = uninterrupted
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}
    assert loop.finetune(config, colors[0], folder=folder, seeds=2) == results
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")} == before


def test_another_config_is_refused(uninterrupted, colors):
    config, folder, _ = uninterrupted
    with pytest.raises(ValueError, match="another config(.|\n)*  epochs: 5 in this folder, 4 now$"):
        loop.finetune(dataclasses.replace(config, epochs=4), colors[0], folder=folder, seeds=2)


def test_the_batch_size_per_device_may_change_between_calls(uninterrupted, colors):
    config, folder, results = uninterrupted
    assert (
        loop.finetune(dataclasses.replace(config, per_device_batch_size=16), colors[0], folder=folder, seeds=2)
        == results
    )


def test_the_named_fields_are_fields(uninterrupted):
    config, _, _ = uninterrupted
    config = flatten(config)
    assert all(any(is_within(path, [field]) for path in config) for field in (*MODEL_FIELDS, *RESUMABLE_FIELDS))
    assert set(BUDGET_FIELDS) <= config.keys()


@pytest.mark.parametrize("left", ["config.json", "seed0.json", "checkpoints"])
def test_a_folder_of_an_earlier_version_is_refused(uninterrupted, colors, tmp_path, left):
    """It states no format: a finished seed or an interrupted one, together with the plan.txt of that version."""
    config, _, _ = uninterrupted
    (tmp_path / "plan.txt").write_text("class: FineTune\nepochs: 5\n")
    path = tmp_path
    if left == "checkpoints":
        (tmp_path / "seed0" / "checkpoints").mkdir(parents=True)
        (tmp_path / "seed0" / "checkpoints" / "10.sha256").write_text("{}")
    elif left == "seed0.json":
        (tmp_path / left).write_text(json.dumps({"task": "colors", "headline": 90.0, "best_epoch": 1, "plan": []}))
    else:
        path = tmp_path / left
        path.write_text(json.dumps({"config": flatten(config), "sha256": {}}))
    message = (
        f"{path} was written by an earlier version of distilbert_jax (format not stated, this version needs "
        f"{FINETUNE_FORMAT}); to fine-tune again, delete {tmp_path}, or name another folder with --output-dir"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        loop.finetune(config, colors[0], folder=tmp_path, seeds=1)


def test_one_result_of_an_earlier_version_is_refused(uninterrupted, colors, tmp_path):
    """Even if the folder itself is of the current version."""
    config, folder, _ = uninterrupted
    shutil.copytree(folder, tmp_path / "results")
    path = tmp_path / "results" / "seed0.json"
    path.write_text(json.dumps({"task": "colors", "headline": 90.0, "best_epoch": 1, "plan": []}))
    with pytest.raises(ValueError, match=f"^{path} was written by an earlier version of distilbert_jax"):
        loop.finetune(config, colors[0], folder=tmp_path / "results", seeds=2)


def test_every_logged_number_has_its_key(uninterrupted):
    _, folder, _ = uninterrupted
    for kind, keys in (("train", log_keys.TRAIN_KEYS), ("eval", log_keys.FINETUNE_EVAL_KEYS)):
        for entry in metrics_log.read_log(folder / "seed0", kind):
            unknown = [name for name in entry if name not in ("kind", "step") and not log_keys.find(name, keys)]
            assert not unknown


def test_other_weights_in_the_same_folder_are_refused(uninterrupted, colors, tmp_path):
    config, folder, _ = uninterrupted
    shutil.copytree(folder, tmp_path / "results")
    (tmp_path / "results" / "seed1.json").unlink()
    path = tmp_path / "results" / CONFIG_FILE
    stored = json.loads(path.read_text())
    stored["sha256"]["model"] = "0" + stored["sha256"]["model"]
    path.write_text(json.dumps(stored))
    with pytest.raises(ValueError, match="another config(.|\n)*sha256.model: 0.* in this folder, .* now$"):
        loop.finetune(config, colors[0], folder=tmp_path / "results", seeds=2)


@pytest.mark.parametrize("at", [5, 10, 12, 13])  # within an epoch, in a step that is logged, at its end, after it
def test_an_interrupted_seed_continues_exactly(at, uninterrupted, colors, tmp_path, monkeypatch, prove):
    if at in (5, 12) and not prove:
        pytest.skip("runs in `make prove`; the remaining 10 is a step that is logged, and 13 is one that is not")
    config, folder, results = uninterrupted

    def logged(folder):
        return [
            {name: value for name, value in entry.items() if name not in harness.TIMED}
            for kind in ("train", "eval")
            for entry in metrics_log.read_log(folder / "seed0", kind)
        ]

    monitor_after = loop.StepMonitor.after

    def after(self, step, *rest, **named):
        monitor_after(self, step, *rest, **named)
        if step == at:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(loop.StepMonitor, "after", after)
        with pytest.raises(RunStopped, match=f"after step {at}"):
            loop.finetune(config, colors[0], folder=tmp_path, seeds=1)
    assert loop.finetune(config, colors[0], folder=tmp_path, seeds=1) == results[:1]
    assert logged(tmp_path) == logged(folder)


def test_a_teacher_teaches_texts_without_labels(uninterrupted, colors, learner, tmp_path):
    _, folder, _ = uninterrupted
    data = tmp_path / "colors"
    shutil.copytree(colors[1], data)
    texts = [text for text, _ in sentences(96)]
    (data / "train.csv").write_text(
        "text,label\n" + "".join(f"{text},\n" for text in texts) + "a red dog,red\na green dog,green\n"
    )
    task = registry.find_task("colors", data)
    config = make_config((task, str(data)), learner)
    with pytest.raises(ValueError, match="cannot be used for training without --teacher"):
        loop.finetune(config, task, folder=tmp_path / "alone", seeds=1)
    teacher = Pretrained(str(folder / "seed0" / "model"))
    config = make_config((task, str(data)), learner, teacher=teacher)
    assert {name: type(loss).__name__ for name, loss in config.losses.items()} == {
        "hard": "HardTargets",
        "soft": "SoftTargets",
    }
    (result,) = loop.finetune(config, task, folder=tmp_path / "taught", seeds=1)
    assert result["main_score"] > 90


def test_a_teacher_without_the_head_is_refused(colors, learner, tmp_path):
    config = make_config(colors, learner, teacher=Pretrained(str(learner)))
    with pytest.raises(ValueError, match="no sequence_classification head(.|\n)*distilbert_jax finetune"):
        loop.finetune(config, colors[0], folder=tmp_path, seeds=1)


def test_hidden_losses_are_added_to_the_soft_loss(uninterrupted, colors, learner, tmp_path, capsys):
    _, folder, _ = uninterrupted
    command = [
        *("finetune", str(learner), "--task", f"colors={colors[1]}", "--teacher", str(folder / "seed0" / "model")),
        *("--hidden-loss", "cosine", "--hidden-loss", "hidden_mse", "--output-dir", str(tmp_path)),
        *("epochs=1", "batch_size=8", "max_length=16", "losses.hidden_mse.weight=0.1"),
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


def test_random_init_takes_only_the_shape(colors, learner, tmp_path):
    """All weights are random: none is that of the model, and no two seeds are the same."""
    prepared = setup.setup_finetuning(setup.load_inputs(make_config(colors, learner, random_init=True), colors[0]))
    weights = load_pretrained(Pretrained(str(learner)), head=colors[0].task_type.head).params["encoder"]
    started = [jax.device_get(prepared.init_state(seed).params["student"]) for seed in (0, 1)]
    for original, one, other in zip(*map(jax.tree.leaves, (weights, *(s["encoder"] for s in started))), strict=True):
        assert original.shape == one.shape
        assert np.array_equal(one, other) == bool((one == one.flat[0]).all())  # biases zero, scales one
        assert not np.array_equal(original, one) or (one == one.flat[0]).all()
    assert (started[0]["encoder"]["norm"]["scale"] == 1).all()
    assert 0.01 < started[0]["encoder"]["words"]["embedding"].std() < 0.03
    config = make_config(colors, learner, random_init=True, epochs=1)
    loop.finetune(config, colors[0], folder=tmp_path, seeds=1)
    card = (tmp_path / "seed0" / "model" / "README.md").read_text()
    assert f"from random weights, with the architecture of `{learner.name} (SHA-256 " in card
    assert str(learner) not in card
    assert str(learner.parent) not in card


def test_a_sample_is_the_same_for_every_config(colors, learner):
    one, other = (
        setup.setup_finetuning(
            setup.load_inputs(make_config(colors, learner, max_train_examples=10, epochs=n), colors[0])
        )
        for n in (1, 2)
    )
    assert list(one.train.examples) == list(other.train.examples)
    assert len(one.train.examples) == 10
    assert [e for e in colors[0].read("train") if e in one.train.examples] == list(one.train.examples)


def test_labels_in_another_order_are_put_into_the_order_of_the_task(uninterrupted, colors):
    _, folder, _ = uninterrupted
    task_type = colors[0].task_type
    model = load_pretrained(Pretrained(str(folder / "seed0" / "model")), head=task_type.head)
    reordered = dataclasses.replace(
        model,
        head_config=dataclasses.replace(model.head_config, labels=("RED", "GREEN")),
        params={**model.params, "classifier": {name: x[..., ::-1] for name, x in model.params["classifier"].items()}},
    )
    matched = models.match_labels(reordered, task_type)
    np.testing.assert_array_equal(matched.params["classifier"]["kernel"], model.params["classifier"]["kernel"])
    other = dataclasses.replace(model, head_config=dataclasses.replace(model.head_config, labels=("a", "b")))
    assert not models.match_labels(other, task_type).has_head


def test_devices_change_nothing(colors, learner):
    """One device and eight have the same loss and the same gradients in the first step, dropout included."""
    losses = []
    for devices in (1, 8):
        config = make_config(colors, learner, batch_size=6)
        with pytest.MonkeyPatch.context() as patched:
            mesh = make_mesh(devices=jax.devices()[:devices])
            patched.setattr(setup, "make_mesh", lambda mesh=mesh: mesh)
            prepared = setup.setup_finetuning(setup.load_inputs(config, colors[0]))
        state = prepared.init_state(0)
        batch = next(
            loop.TaskBatches(rows=prepared.train.encoded.rows, seed=0, batch_size=6, layout=prepared.layout).iter_epoch(
                0
            )
        )
        _, metrics = prepared.train_step(state, {}, loop.Batch(**loop.put_batch(batch, prepared.mesh)), 0)
        losses.append((float(metrics["loss"]), float(metrics["grad_norm"])))
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_a_signal_in_the_last_step_of_a_seed_ends_the_call(uninterrupted, colors, tmp_path, monkeypatch):
    """The result is written, the next seed is not started, and the same call continues with it."""
    config, _, results = uninterrupted
    monitor_after = loop.StepMonitor.after

    def after(self, step, *rest, **named):
        monitor_after(self, step, *rest, **named)
        if step == 5 * 96 // 8:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(loop.StepMonitor, "after", after)
        with pytest.raises(RunStopped, match="after step 60"):
            loop.finetune(config, colors[0], folder=tmp_path, seeds=2)
    assert (tmp_path / "seed0.json").exists()
    assert not (tmp_path / "seed1").exists()
    assert loop.finetune(config, colors[0], folder=tmp_path, seeds=2) == results
    assert not list(tmp_path.glob("seed?/checkpoints"))
