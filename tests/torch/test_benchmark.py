"""benchmarks/step.py at its smallest: every side runs and has its row."""

import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="torch is installed on Python 3.11 only")
SCRIPT = pathlib.Path(__file__).parents[2] / "benchmarks" / "step.py"
TINY = ("--repeats=2", "--rows=1", "--hidden=12", "--teacher-layers=2", "--student-layers=1")


def test_every_side_has_a_row():
    done = subprocess.run([sys.executable, SCRIPT, *TINY], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines() if line.startswith("|")]
    sides = [row for row in rows if row in ("ours", "plain", "gathered")]
    assert sides == ["ours", "plain", "gathered", "ours", "plain"]
