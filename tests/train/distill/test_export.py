"""The student of any checkpoint as a Hub folder."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from distilbert_jax.cli.main import main
from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.hub.load import load_pretrained
from distilbert_jax.io import files
from distilbert_jax.train.distill.export import export_checkpoint
from tests.conftest import ROOT
from tests.reliability.harness import arrays


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run of four steps, with checkpoints of steps 2 and 4."""
    folder = tmp_path_factory.mktemp("smoke")
    command = ["distill", str(ROOT / "experiments/quickstart.py"), "student.layers=(0,)", "--smoke", str(folder)]
    assert main(command) == 0
    return folder / "run"


def word_embeddings(folder):
    return load_pretrained(Pretrained(str(folder))).params["encoder"]["words"]["embedding"]


def test_the_last_checkpoint_gives_the_export_of_the_run(finished):
    assert export_checkpoint(finished) == finished / "export-4"
    assert files.folder_hashes(finished / "export-4") == files.folder_hashes(finished / "export")


def test_an_earlier_step_has_the_weights_and_the_figures_of_that_step(finished, tmp_path):
    target = export_checkpoint(finished, step=2, output_dir=tmp_path / "two")
    saved = arrays(finished / "checkpoints" / "2")["params"]["student"]
    np.testing.assert_array_equal(word_embeddings(target), saved["encoder"]["words"]["embedding"])
    assert (target / "README.md").read_text() != (finished / "export" / "README.md").read_text()


def test_what_cannot_be_exported(finished, tmp_path, capsys):
    assert main(["export", str(finished), "--step", "3"]) == 1
    assert "has no complete checkpoint of step 3; its steps are 2, 4" in capsys.readouterr().err
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["export", str(finished), "--output-dir", str(tmp_path)]) == 1
    assert "has files that this program did not make, such as notes.txt" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert main(["export", str(tmp_path)]) == 1
    assert main(["export", str(finished.parent / "shards")]) == 1
    assert "made by `prepare`: it is not the folder of a run of `distill`" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_not_exported(finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "run")
    largest = max((tmp_path / "run/checkpoints/4").rglob("*"), key=lambda path: path.stat().st_size)
    largest.write_bytes(b"x" + largest.read_bytes()[1:])
    assert main(["export", str(tmp_path / "run"), "--step", "4"]) == 1
    assert "no checkpoint in" in capsys.readouterr().err
    assert export_checkpoint(tmp_path / "run") == tmp_path / "run" / "export-2"


def test_a_run_that_goes_on_and_a_killed_run_can_be_exported(tmp_path):
    command = [sys.executable, "-m", "distilbert_jax", "distill", "experiments/quickstart.py", "--smoke", str(tmp_path)]
    changes = ["student.layers=(0,)", "steps=100000", "checkpoint_every=5", "eval_every=100000"]
    with open(tmp_path.with_suffix(".out"), "wb") as output:
        process = subprocess.Popen([*command, *changes], cwd=ROOT, stdout=output, stderr=output)
    try:
        checkpoints = tmp_path / "run" / "checkpoints"
        deadline = time.monotonic() + 300
        while len(list(checkpoints.glob("*.sha256"))) < 2:
            assert process.poll() is None, pathlib.Path(output.name).read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        going_on = export_checkpoint(tmp_path / "run", output_dir=tmp_path / "going-on")
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    killed = export_checkpoint(tmp_path / "run", output_dir=tmp_path / "killed")
    assert np.isfinite(word_embeddings(going_on)).all()
    assert np.isfinite(word_embeddings(killed)).all()
    assert not (tmp_path / "run" / "export").exists()
