"""The whole command: it trains, resumes exactly, ends when asked to, and refuses what does not fit."""

import dataclasses
import json
import math
import os
import pathlib
import re
import shutil
import signal

import jax
import numpy as np
import pytest

from distilbert_jax import log_keys
from distilbert_jax.cli.main import main
from distilbert_jax.config import experiment_file
from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.data import batches
from distilbert_jax.hub.smoke import make_smoke_experiment
from distilbert_jax.io import files, folder_marker
from distilbert_jax.losses.hard_targets import HardTargets
from distilbert_jax.report import run_report
from distilbert_jax.runtime import metrics_log, run_folder, step_monitor
from distilbert_jax.runtime.stop_signal import RunStopped
from distilbert_jax.train.distill import loop
from tests.conftest import ROOT
from tests.reliability.harness import TIMED, arrays


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of eight steps that nothing interrupted: (experiment, folder)."""
    folder = tmp_path_factory.mktemp("whole")
    quickstart = experiment_file.load_experiment(ROOT / "experiments" / "quickstart.py")
    student = dataclasses.replace(quickstart.student, layers=(0, 1), dropout=0.1, attention_dropout=0.1)
    experiment = make_smoke_experiment(dataclasses.replace(quickstart, student=student), folder)
    experiment = dataclasses.replace(experiment, steps=8, checkpoint_every=3, eval_every=4)
    return experiment, loop.distill(experiment)


def again(experiment, folder, **changes):
    return dataclasses.replace(experiment, workdir=str(folder), **changes)


def logged(folder):
    entries = [*metrics_log.read_log(folder, "train"), *metrics_log.read_log(folder, "eval")]
    return [{name: value for name, value in entry.items() if name not in TIMED} for entry in entries]


def last_state(folder):
    """Every byte of the last checkpoint's arrays."""
    steps = [int(path.stem) for path in (folder / "checkpoints").glob("*.sha256") if path.stem.isdigit()]
    return max(steps), arrays(folder / "checkpoints" / str(max(steps)))


def assert_same_run(a, b):
    assert logged(a) == logged(b)
    (step_a, state_a), (step_b, state_b) = last_state(a), last_state(b)
    assert step_a == step_b
    jax.tree.map(np.testing.assert_array_equal, state_a, state_b)


def test_what_a_run_leaves(whole):
    experiment, folder = whole
    assert [entry["step"] for entry in metrics_log.read_log(folder, "train")] == list(range(1, 9))
    assert [entry["step"] for entry in metrics_log.read_log(folder, "eval")] == [0, 4, 8]
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == ["6", "6.sha256", "8", "8.sha256"]
    names = {p.name for p in (folder / "export").iterdir()}
    assert names == {
        "README.md",
        "config.json",
        "distilbert_jax.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    }
    entry = metrics_log.read_log(folder, "train")[-1]
    assert {
        "loss/soft",
        "loss_share/soft",
        "teacher_cross_entropy",
        "teacher_entropy",
        "learning_rate",
    } < entry.keys()
    assert {"grad_norm", *TIMED} < entry.keys()
    assert sum(entry[f"loss_share/{name}"] for name in experiment.losses) == pytest.approx(1)
    assert 0 <= entry["data_wait_fraction"] < 1
    evaluated = metrics_log.read_log(folder, "eval")[-1]
    assert {
        "accuracy",
        "accuracy_stderr",
        "perplexity",
        "teacher_accuracy",
        "teacher_perplexity",
        "teacher_agreement",
        "teacher_kl",
    } < evaluated.keys()
    assert run_folder.read_identity(folder)["config"]["losses.soft.temperature"] == 2.0
    made_from = folder_marker.read_marker(folder / "export")["made_from"]
    assert made_from.items() > {"run": experiment.name, "step": 8}.items()


def test_the_card_says_nothing_about_the_machine(whole):
    _, folder = whole
    card = (folder / "export" / "README.md").read_text()
    assert "distilled from `teacher (SHA-256 " in card
    assert "workdir: run\n" in card
    assert "teacher.name_or_path: teacher\n" in card
    assert str(folder.parent) not in card
    assert not re.search(r"(?<![\w:/])/\w+/", card)
    assert {path.stat().st_mode & 0o777 for path in (folder / "export").iterdir()} == {0o644 & ~_umask()}


def _umask():
    os.umask(before := os.umask(0o022))
    return before


def test_every_logged_number_has_its_key(whole):
    _, folder = whole
    for kind, keys in (("train", log_keys.TRAIN_KEYS), ("eval", log_keys.EVAL_KEYS)):
        for entry in metrics_log.read_log(folder, kind):
            unknown = [name for name in entry if name not in ("kind", "step") and not log_keys.find(name, keys)]
            assert not unknown
    results = json.loads((folder / "results.json").read_text())
    assert results["initial"]["step"] == 0
    assert results["final"]["step"] == 8
    assert results["final"].keys() == results["initial"].keys() == {"step", *(key.name for key in log_keys.EVAL_KEYS)}


@pytest.mark.parametrize("stated", [None, 1, run_folder.RUN_FORMAT + 1])
def test_a_run_of_another_version_is_refused(whole, tmp_path, capsys, stated):
    """An earlier one had no marker; its checkpoints and results have other names in them."""
    shutil.copytree(whole[1], tmp_path / "run")
    marker = folder_marker.read_marker(tmp_path / "run")
    (tmp_path / "run" / folder_marker.MARKER_FILE).unlink()
    if stated is not None:
        folder_marker.write_marker(tmp_path / "run", "distill", format=stated, made_from=marker["made_from"])
    age = "a later" if stated and stated > run_folder.RUN_FORMAT else "an earlier"
    message = (
        f"{tmp_path / 'run'} was written by {age} version of distilbert_jax (format {stated or 'not stated'}, this "
        f"version needs {run_folder.RUN_FORMAT}); to make the run again, run the same command with another workdir, or "
        "delete the folder first"
    )
    refused = re.escape(message) if stated else "has files that this program did not make"
    with pytest.raises(ValueError, match=refused):
        loop.distill(again(whole[0], tmp_path / "run"))
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        run_report.show_report(tmp_path / "run")
    (tmp_path / "run" / "command.json").write_text(
        json.dumps({"file": "x.py", "overrides": [], "smoke": None, "typed_in": str(tmp_path)})
    )
    assert main(["replay", str(tmp_path / "run"), "3"]) == 1
    assert capsys.readouterr().err.strip() == f"error: {message}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_same_command_goes_on_exactly(whole, tmp_path, monkeypatch, number):
    experiment = again(whole[0], tmp_path)
    after = step_monitor.StepMonitor.after

    def interrupted(self, step, *rest, **named):
        after(self, step, *rest, **named)
        if step == 5:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(step_monitor.StepMonitor, "after", interrupted)
    with pytest.raises(RunStopped, match=f"ended by {number.name} after step 5; everything is saved") as caught:
        loop.distill(experiment)
    assert caught.value.status == 128 + number
    monkeypatch.undo()
    loop.distill(experiment)
    assert_same_run(whole[1], tmp_path)


def test_the_loop_runs_nothing_on_the_devices_but_the_step(whole, tmp_path, monkeypatch):
    """Any other operation would wait for the running step. With empty caches, everything that runs is compiled."""
    compiled, watching = [], []

    def listen(event, duration, **named):
        if watching and event.endswith("jaxpr_to_mlir_module_duration"):
            compiled.append(named["fun_name"])

    def after(self, step, *rest, **named):
        if step == 3:
            jax.clear_caches()
            watching.append(step)
        original(self, step, *rest, **named)
        if step == 7:
            watching.clear()

    original = step_monitor.StepMonitor.after
    monkeypatch.setattr(step_monitor.StepMonitor, "after", after)
    jax.monitoring.register_event_duration_secs_listener(listen)
    loop.distill(again(whole[0], tmp_path, log_every=1, eval_every=100, checkpoint_every=100))
    assert compiled == ["jit(train_step)"]


def test_the_same_command_on_a_finished_run_changes_nothing(whole):
    experiment, folder = whole
    before = (folder / "log.jsonl").read_bytes(), files.sha256(folder / "export" / "model.safetensors")
    loop.distill(experiment)
    assert ((folder / "log.jsonl").read_bytes(), files.sha256(folder / "export" / "model.safetensors")) == before


def test_other_devices_and_another_pace_are_no_other_experiment(whole, tmp_path):
    """Eight rows a device instead of one: the same rows and masks, the same losses to rounding."""
    folder = loop.distill(again(whole[0], tmp_path, per_device_batch_size=1, log_every=2, keep_checkpoints=1))
    ours, theirs = metrics_log.read_log(folder, "train")[-1], metrics_log.read_log(whole[1], "train")[-1]
    for name in ("loss", "loss/soft", "loss/hard", "loss/cosine"):
        assert ours[name] == pytest.approx(theirs[name], rel=1e-3)
    loop.distill(again(whole[0], whole[1], per_device_batch_size=1))  # not refused


def test_a_folder_of_another_experiment_is_refused_with_the_difference(whole):
    experiment, folder = whole
    with pytest.raises(ValueError, match="holds the run of another experiment.*\n  seed: 0 before, 1 now"):
        loop.distill(again(experiment, folder, seed=1))


def test_a_folder_in_use_is_refused(whole):
    experiment, folder = whole
    with files.lock_folder(folder), pytest.raises(ValueError, match="in use by another process"):
        loop.distill(experiment)


def test_the_seed_decides(whole, tmp_path):
    folder = loop.distill(again(whole[0], tmp_path, seed=1))
    assert metrics_log.read_log(folder, "train")[0]["loss"] != metrics_log.read_log(whole[1], "train")[0]["loss"]


def test_a_control_learns_without_the_teacher_and_is_measured_against_it(whole, tmp_path):
    folder = loop.distill(again(whole[0], tmp_path, losses={"hard": HardTargets()}))
    assert "teacher_entropy" not in metrics_log.read_log(folder, "train")[-1]
    assert (
        metrics_log.read_log(folder, "eval")[0] == metrics_log.read_log(whole[1], "eval")[0]
    )  # the same student, rows and masks


def test_nan_stops_the_run_naming_step_loss_and_mend(whole, tmp_path):
    experiment = again(whole[0], tmp_path)
    wild = dataclasses.replace(experiment.optimizer, learning_rate=1e30, max_grad_norm=1e30, warmup_ratio=0.0)
    with pytest.raises(
        ValueError, match=r"step \d: .*loss/hard.* became (nan|inf).*checkpoint.*lower optimizer.learning_rate"
    ):
        loop.distill(dataclasses.replace(experiment, optimizer=wild))
    assert not (tmp_path / "export").exists()


def test_a_run_that_diverges_says_so_and_ends_with_a_warning(whole, tmp_path, capsys):
    optimizer = dataclasses.replace(whole[0].optimizer, learning_rate=50.0)
    experiment = again(whole[0], tmp_path, optimizer=optimizer, steps=2, eval_every=2, checkpoint_every=1)
    loop.distill(experiment)
    said = " ".join(capsys.readouterr().out.split())
    assert "step 2: accuracy" in said
    assert "It is also worse than at the start: the run has diverged. Start it again with a lower" in said
    assert "Warning: The student's perplexity on held-out rows is" in said
    assert "**Warning.** The student's perplexity on held-out rows is" in (tmp_path / "export/README.md").read_text()
    assert last_state(tmp_path)[0] == 2
    assert math.isfinite(metrics_log.read_log(tmp_path, "eval")[-1]["cross_entropy"])
    run_report.show_report(tmp_path)


def test_a_run_in_which_every_step_overflows_exports_nothing(whole, tmp_path):
    losses = {"hard": HardTargets(weight=1e9)}
    experiment = again(whole[0], tmp_path, losses=losses, dtype="float16", steps=2, checkpoint_every=2)
    for _ in range(2):
        with pytest.raises(ValueError, match="all 2 steps were skipped.*not finite in float16.*it is not exported"):
            loop.distill(experiment)
        assert not (tmp_path / "export").exists()
        assert not (tmp_path / "results.json").exists()


def test_nan_names_the_last_good_checkpoint(whole, tmp_path, monkeypatch):
    """Orderly until step 5, whose loss is then said to be NaN."""
    from distilbert_jax.runtime import step_monitor

    monkeypatch.setattr(step_monitor.math, "isfinite", lambda value: value != values.get(5))
    values = {}
    after = step_monitor.StepMonitor.after

    def spy(self, step, metrics, waited, **named):
        values[step] = float(metrics["loss"])
        after(self, step, metrics, waited, **named)

    monkeypatch.setattr(step_monitor.StepMonitor, "after", spy)
    with pytest.raises(ValueError, match=r"step 5: loss became .*\. The last good checkpoint is .*/checkpoints/3, and"):
        loop.distill(again(whole[0], tmp_path))


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(whole, tmp_path, capsys):
    experiment = again(whole[0], tmp_path)
    loop.distill(experiment)
    next((tmp_path / "checkpoints" / "8").rglob("manifest.ocdbt")).unlink()
    loop.distill(experiment)
    assert "Resuming from step 6" in capsys.readouterr().out
    assert_same_run(whole[1], tmp_path)


def test_what_does_not_fit_together(whole, tmp_path, distilbert_folder):
    experiment, _ = whole

    def of(**changes):
        return loop.distill(again(experiment, tmp_path, **changes))

    with pytest.raises(ValueError, match=r"student.layers is \(0, 9\), but the model it starts from has layers 0 to 1"):
        of(student=dataclasses.replace(experiment.student, layers=(0, 9)))
    with pytest.raises(
        ValueError,
        match="corpus.sequence_length is 128, but .* has 64 positions. Set corpus.sequence_length to 64 or less",
    ):
        of(corpus=dataclasses.replace(experiment.corpus, sequence_length=128))
    with pytest.raises(ValueError, match="student.family 'gpt2' is not supported. Use one of bert, distilbert"):
        of(student=dataclasses.replace(experiment.student, family="gpt2"))
    with pytest.raises(ValueError, match="global_batch_size=12 is not divisible by 8 devices"):
        of(global_batch_size=12)
    with pytest.raises(ValueError, match="the model folder ./nowhere does not exist"):
        of(teacher=Pretrained("./nowhere"))


def test_a_teacher_without_a_head_is_sent_to_adapt(whole, tmp_path, bert_folder):
    import shutil

    import safetensors.numpy

    bare = shutil.copytree(bert_folder, tmp_path / "bare")
    tensors = safetensors.numpy.load_file(bare / "model.safetensors")
    safetensors.numpy.save_file(
        {k: v for k, v in tensors.items() if not k.startswith("cls.")}, bare / "model.safetensors"
    )
    with pytest.raises(
        ValueError,
        match="no masked LM head.*\n  python -m distilbert_jax distill experiments/adapt.py student.init_from=",
    ):
        loop.distill(again(whole[0], tmp_path / "run", teacher=Pretrained(str(bare))))


def test_every_step_sees_other_rows_until_the_epoch_ends(whole):
    experiment, _ = whole
    manifest = json.loads((pathlib.Path(experiment.corpus.shard_dir) / "manifest.json").read_text())
    shards = batches.Shards(pathlib.Path(experiment.corpus.shard_dir), manifest["shards"]["train"])
    layout = batches.BatchLayout(accumulation=2, rows=8)
    run = batches.Batches(shards=shards, seed=0, steps=100, layout=layout)
    n = len(shards)
    seen = np.concatenate([run[step]["row_ids"].ravel() for step in range(2 * n // 16)])
    first, second = seen[:n], seen[n : 2 * n]
    assert sorted(first) == list(range(n))
    assert len(set(second)) == len(second)
    assert (first[: len(second)] != second).mean() > 0.9  # another order in the second epoch
    assert run[0]["epochs"].max() == 0
    assert run[n // 16 + 1]["epochs"].max() == 1


@pytest.mark.parametrize(("accumulation", "rows", "of"), [(1, 16, 1), (4, 4, 1), (2, 8, 2), (1, 16, 4)])
def test_the_rows_of_a_step_do_not_depend_on_who_reads_them(whole, accumulation, rows, of):
    experiment, _ = whole
    manifest = json.loads((pathlib.Path(experiment.corpus.shard_dir) / "manifest.json").read_text())
    shards = batches.Shards(pathlib.Path(experiment.corpus.shard_dir), manifest["shards"]["train"])

    def read(**layout):
        parts = [
            batches.Batches(
                shards=shards,
                seed=3,
                steps=9,
                layout=batches.BatchLayout(
                    process_index=p,
                    process_count=layout["of"],
                    accumulation=layout["accumulation"],
                    rows=layout["rows"],
                ),
            )[5]
            for p in range(layout["of"])
        ]
        return {
            int(row): tokens.tobytes()
            for part in parts
            for row, tokens in zip(part["row_ids"].ravel(), part["tokens"].reshape(16 // layout["of"], -1), strict=True)
        }

    assert read(accumulation=accumulation, rows=rows, of=of) == read(accumulation=1, rows=16, of=1)
