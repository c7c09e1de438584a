"""The benchmarks at their smallest: every side runs and has its row."""

import pathlib
import subprocess
import sys

import pytest

from distilbert_jax.hub import smoke
from tests.conftest import tiny_config

pytest.importorskip("torch", reason="torch is installed on Python 3.11 only")
BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"
TINY = ("--repeats=2", "--rows=1", "--hidden=12", "--teacher-layers=2", "--student-layers=1")


def sides(*command):
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines() if line.startswith("|")]
    return [row for row in rows if row.partition(",")[0] in ("ours", "plain", "gathered", "transformers")]


def test_step():
    assert sides(BENCHMARKS / "step.py", *TINY) == ["ours", "plain", "gathered", "ours", "plain"]


def test_finetune(tmp_path, tokenizer):
    cfg = tiny_config(num_token_types=0, projection_dropout=0.0, max_tokens=128)
    smoke.tiny_model(tmp_path / "model", cfg, tokenizer=tokenizer, family="distilbert", seed=0)
    (tmp_path / "SST-2").mkdir()
    for split in ("train", "dev"):
        lines = ["sentence\tlabel", *(f"the {'old ' * (i % 9)}cat runs\t{i % 2}" for i in range(80))]
        (tmp_path / "SST-2" / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    command = (BENCHMARKS / "finetune.py", tmp_path / "model", tmp_path, "--batches=2", "--repeats=2")
    assert sides(*command) == [
        f"{side}, {dtype}" for side in ("ours", "transformers") for dtype in ("float32", "bfloat16")
    ]
