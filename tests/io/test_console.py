"""Tests the progress bar: plain lines from time to time without a terminal, bars on a terminal."""

import os
import subprocess
import sys

import pytest
from rich.console import Console

from distilbert_jax.io import console
from tests.conftest import ROOT


@pytest.fixture
def clock(monkeypatch):
    """Returns a list whose only element is the time, which passes only when a test sets it."""
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def test_lines(clock, capsys):
    with console.progress_bar("packing", total=100) as advance:
        for done in range(0, 101, 10):
            clock[0] = done  # a second each
            advance(done, "well")
    assert capsys.readouterr().out.splitlines() == [
        "packing 20 of 100, 20 s, 80 s left  well",
        "packing 40 of 100, 40 s, 60 s left  well",
        "packing 60 of 100, 60 s, 40 s left  well",
        "packing 80 of 100, 80 s, 20 s left  well",
        "packing 100 of 100, 100 s, 0 s left  well",
    ]


def test_what_goes_on_does_not_count_what_was_there(clock, capsys):
    with console.progress_bar("distilling", total=100) as advance:
        advance(50)
        clock[0] = 30.0
        advance(60)
    assert capsys.readouterr().out == "distilling 60 of 100, 30 s, 120 s left\n"


def test_a_short_one_that_does_not_stay_says_nothing(clock, capsys):
    with console.progress_bar("measuring", total=2, stays=False) as advance:
        advance(2)
    assert capsys.readouterr().out == ""


def test_bars_within_bars(monkeypatch, capsys):
    monkeypatch.setattr(console, "console", Console(force_terminal=True, width=100))
    with console.progress_bar("outer", total=1) as outer, console.progress_bar("inner", total=1, stays=False) as inner:
        inner(1)
        outer(1, "loss 1.0")
    output = capsys.readouterr().out
    assert "outer" in output
    assert "inner" in output
    assert "1/1" in output
    assert "loss 1.0" in output


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TERM": "dumb", "COLUMNS": "20"},
    ],
    ids=["latin-1", "ascii"],
)
def test_what_a_console_cannot_print_is_replaced(variables, tmp_path):
    def run(*words):
        command = [sys.executable, "-m", "distilbert_jax", *words]
        done = subprocess.run(command, env=os.environ | variables, capture_output=True, cwd=ROOT)
        return done.returncode, done.stdout.decode("latin-1"), done.stderr.decode("latin-1")

    smoke = str(tmp_path / "smoke")
    status, out, error = run("speed", "experiments/quickstart.py", "--smoke", smoke)
    assert (status, error) == (0, "")
    assert f"? {smoke}" in out  # the arrow between the corpus and its folder
    status, out, error = run("report", "no → run")
    assert (status, out) == (1, "")
    assert error.startswith("error: no ")
    assert "is not the folder of a finished run" in error
