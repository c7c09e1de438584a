"""kill -9 and SIGTERM, wherever they strike the real command: the same run to the bit."""

import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.reliability import harness
from tests.reliability.harness import at_random, in_a_save, in_training, while_there_is

QUICKSTART = str(ROOT / "experiments" / "quickstart.py")


def timed(command):
    """The seconds a command takes that nothing interrupts."""
    since = time.monotonic()
    harness.run(command)
    return time.monotonic() - since


def landing_of_distill(folder):
    run = folder / "run"
    if not (run / "log.jsonl").exists():
        return "before the first step"
    if (run / "export.partial").exists() or (run / "export.old").exists():
        return "in the export"
    if harness.half_saved(folder):
        return harness.HALF_SAVED
    if not (run / "log.jsonl").read_bytes().endswith(b"\n"):
        return "in a line of the log"
    return "between steps"


def test_distill_killed_anywhere_is_the_same_run(tmp_path, prove, figures):
    """The parameters, the optimizer's state, the losses and the export, each step logged once. SIGTERM saves, ends
    with 143, and a second one at once.
    """
    random, each = np.random.default_rng(0), 6 if prove else 1
    steps, every = 200 if prove else 40, 20

    def command(name):
        return [
            *("distill", QUICKSTART, "--smoke", str(tmp_path / name), f"steps={steps}", f"checkpoint_every={every}"),
            *("eval_every=20", "student.layers=(0,1)", "student.dropout=0.1", "student.attention_dropout=0.1"),
        ]

    length = timed(command("whole"))
    moments = [in_a_save() for _ in range(each)] + [at_random(random, length=length) for _ in range(each)]
    if prove:
        moments += [in_training(random, length=0.3) for _ in range(4)]
        moments += [in_training(random, length=0.3, number=signal.SIGTERM, twice=twice) for twice in (False, True)]
        random.shuffle(moments)
        moments += [while_there_is("run/export.partial") for _ in range(2)]

    def same():
        whole, killed = tmp_path / "whole" / "run", tmp_path / "killed" / "run"
        logged = {"train": list(range(1, steps + 1)), "eval": list(range(0, steps + 1, 20))}
        harness.same_log(whole, killed, steps=logged)
        harness.same_checkpoints(whole / "checkpoints", killed / "checkpoints")
        harness.same_files(whole / "export", killed / "export", "model.safetensors", "config.json", "vocab.txt")

    landings = harness.interrupt(
        command("killed"), tmp_path / "killed", moments, landing=landing_of_distill, came_to_its_end=same
    )
    assert landings[harness.HALF_SAVED] >= (5 if prove else 1)
    figures("test_distill_killed_anywhere_is_the_same_run", harness.words(landings, of="distill"))


def test_prepare_killed_anywhere_makes_the_same_shards(tmp_path, prove, figures, bert_folder):
    """Byte for byte, and no process stays behind."""
    random = np.random.default_rng(1)
    text = harness.texts(tmp_path / "text.txt", documents=24_000)

    def command(name):
        return [
            *("prepare", QUICKSTART, f"teacher={bert_folder}", f"corpus.sources.text={text}"),
            *(f"corpus.shard_dir={tmp_path / name}", "corpus.sequence_length=64"),
        ]

    length = timed(command("whole"))

    def among_chunks():
        return while_there_is("train-00001.json", without="manifest.json")

    moments = [among_chunks()]
    if prove:
        moments = [at_random(random, length=length) for _ in range(4)]
        moments += [
            among_chunks(),
            while_there_is("train-*.partial"),
            while_there_is("train-00003.json"),
            among_chunks(),
        ]
        moments += [at_random(random, length=length, number=signal.SIGTERM)]

    def landing(folder):
        if not list(folder.glob("train-*")):
            return "before the first chunk"
        return "in the write of a chunk" if list(folder.glob("*.partial")) else "between chunks"

    def same():
        return harness.same_files(tmp_path / "whole", tmp_path / "killed", "*.npy", "*.json")

    landings = harness.interrupt(command("killed"), tmp_path / "killed", moments, landing=landing, came_to_its_end=same)
    figures("test_prepare_killed_anywhere_makes_the_same_shards", harness.words(landings, of="prepare"))


def landing_of_finetune(folder):
    seeds = sorted(folder.glob("seed?"))
    if not seeds:
        return "before the first seed"
    if list(folder.glob("seed?/model.*")):
        return "in the write of the best model"
    if harness.half_saved(folder):
        return harness.HALF_SAVED
    if len(list(folder.glob("seed?.json"))) == len(seeds):
        return "between seeds"
    return "in an epoch"


def test_finetune_killed_anywhere_comes_to_the_same_results(tmp_path, prove, figures, shallow_distilbert_folder):
    """The results, the best model of each seed, the answers that were counted, and every logged loss."""
    random, seeds = np.random.default_rng(2), 2 if prove else 1
    examples, epochs = (640, 4) if prove else (160, 2)
    model = harness.learner(tmp_path / "learner", shallow_distilbert_folder)
    task = harness.colors(tmp_path / "colors", train=examples)

    def command(name):
        return [
            *(
                "finetune",
                str(model),
                "--task",
                f"colors={task}",
                "--seeds",
                str(seeds),
                "--output-dir",
                str(tmp_path / name),
            ),
            *(f"epochs={epochs}", "batch_size=8", "max_length=16", "optimizer.learning_rate=2e-3"),
        ]

    length = timed(command("whole"))

    def the_model():
        return while_there_is("seed?/model.partial")

    moments = [the_model()]
    if prove:
        moments = [at_random(random, length=length) for _ in range(3)] + [in_training(random) for _ in range(3)]
        moments += [in_a_save(), in_a_save(), while_there_is("seed0.json", without="seed1/log.jsonl")]
        moments += [in_training(random, number=signal.SIGTERM), the_model(), the_model()]

    def same():
        whole, killed = (tmp_path / name / "colors" for name in ("whole", "killed"))
        results = ("config.json", "seed?.json", "seed?/per_example.json", "seed?/model/*")
        harness.same_files(whole, killed, *results)
        per_epoch = examples // 8
        logged = {"train": [1, *range(10, epochs * per_epoch + 1, 10)]}
        logged["eval"] = list(range(per_epoch, epochs * per_epoch + 1, per_epoch))
        for seed in range(seeds):
            harness.same_log(whole / f"seed{seed}", killed / f"seed{seed}", steps=logged)
            assert not (killed / f"seed{seed}" / "checkpoints").exists()

    landings = harness.interrupt(
        command("killed"), tmp_path / "killed" / "colors", moments, landing=landing_of_finetune, came_to_its_end=same
    )
    if prove:
        assert landings["in the write of the best model"]
        assert landings["in an epoch"]
    figures("test_finetune_killed_anywhere_comes_to_the_same_results", harness.words(landings, of="finetune"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(number):
    """Whatever is being saved: here a save of a minute."""
    code = """
import contextlib, sys, time
from distilbert_jax.devices.mesh import make_mesh
from distilbert_jax.runtime.stop_signal import StopSignal
with contextlib.ExitStack() as save, StopSignal(make_mesh()) as stop:
    save.callback(time.sleep, 60)
    print("ready", flush=True)
    while stop.signal is None:
        time.sleep(0.01)
    print("saving", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    for said in ("ready\n", "saving\n"):
        assert process.stdout.readline() == said
        process.send_signal(number)
    assert process.wait(timeout=10) == -number
    process.stdout.close()


def test_a_model_folder_is_old_or_new_whenever_it_is_looked_at(tmp_path, monkeypatch, bert_folder):
    """Every step of the swap is a kill: what is there is whole, and the next swap goes through."""
    from distilbert_jax.io import files

    swaps = 0
    for fatal in range(1, 10):
        folder, new = tmp_path / str(fatal) / "model", tmp_path / str(fatal) / "model.partial"
        for name, text in ((folder, "old"), (new, "new")):
            name.mkdir(parents=True)
            (name / "config.json").write_text(text)
            (name / "weights").write_text(text)
        calls = []

        def dies(before, calls=calls, fatal=fatal):
            def call(*arguments, **named):
                calls.append(before)
                if len(calls) == fatal:
                    raise KeyboardInterrupt
                return before(*arguments, **named)

            return call

        with monkeypatch.context() as patched:
            for owner, name in ((pathlib.Path, "rename"), (shutil, "rmtree")):
                patched.setattr(owner, name, dies(getattr(owner, name)))
            try:
                files.replace_folder(new, folder)
                swaps += 1
            except KeyboardInterrupt:
                assert not folder.exists() or len({path.read_text() for path in folder.iterdir()}) == 1
                assert not folder.exists() or len(list(folder.iterdir())) == 2
        if new.exists():
            files.replace_folder(new, folder)
        assert {path.read_text() for path in folder.iterdir()} == {"new"}
    assert swaps
