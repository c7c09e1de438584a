"""Updates that take longer than a signal may wait: every one is saved, and the first signal ends the run at once."""

import dataclasses
import signal
import socket
import subprocess
import sys
import time

import pytest

from distilbert_jax.config import experiment_file
from distilbert_jax.devices import processes
from distilbert_jax.devices.processes import ProcessGroup
from distilbert_jax.devices.socket_lines import receive
from distilbert_jax.hub.smoke import make_smoke_experiment
from distilbert_jax.runtime import slow_updates
from distilbert_jax.runtime.checkpoint import Checkpoints
from distilbert_jax.train.distill import loop
from tests.conftest import ROOT

END_SECONDS = 20.0  # most of them are for a busy machine


@pytest.fixture
def experiment(tmp_path):
    quickstart = experiment_file.load_experiment(ROOT / "experiments" / "quickstart.py")
    small = dataclasses.replace(quickstart, student=dataclasses.replace(quickstart.student, layers=(0, 1)))
    return dataclasses.replace(make_smoke_experiment(small, tmp_path), steps=5, checkpoint_every=100, eval_every=100)


@pytest.mark.parametrize(("limit", "saved"), [(-1.0, [1, 2, 3, 4, 5]), (1e9, [5])])
def test_every_slow_update_is_saved(experiment, monkeypatch, capsys, limit, saved):
    steps, save = [], Checkpoints.save

    def spy(self, state, *, step):
        steps.append(step)
        save(self, state, step=step)

    monkeypatch.setattr(Checkpoints, "save", spy)
    monkeypatch.setattr(slow_updates, "SLOW_UPDATE_SECONDS", limit)
    loop.distill(experiment)
    assert steps == saved
    assert capsys.readouterr().out.count("at most the unfinished update is lost") == (limit < 0)


def test_only_the_first_update_is_slow_where_it_includes_compilation(experiment, monkeypatch, capsys):
    seconds = iter([0.0, 60.0, 0.0, 1.0])  # around each of the first two updates
    clock = slow_updates.time.perf_counter

    class Clock:
        perf_counter = staticmethod(lambda: next(seconds, None) or clock())

    monkeypatch.setattr(slow_updates, "time", Clock)
    loop.distill(experiment)
    assert "unfinished" not in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_slow_update_at_once(number, tmp_path):
    words = ["distill", "experiments/quickstart.py", "--smoke", str(tmp_path), "global_batch_size=400000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "distilbert_jax", *words], cwd=ROOT, text=True, stdout=-1, stderr=-1
    )
    for line in process.stdout:
        if "at most the unfinished update is lost" in line:
            break
    assert "An update takes about" in line
    time.sleep(1)
    sent = time.monotonic()
    process.send_signal(number)
    _, error = process.communicate(timeout=300)
    assert time.monotonic() - sent < END_SECONDS
    assert process.returncode == 128 + number
    expected = f"ended by {number.name} during step 1. There is no checkpoint yet, so the same command starts again"
    assert error.startswith(expected)


def test_all_processes_end_with_the_same_message(monkeypatch, capsys):
    """Process 1 announces its end. Process 0 passes it on to process 2 and ends in the same way."""
    (a, b), (c, d) = socket.socketpair(), socket.socketpair()
    first, second = ProcessGroup(), ProcessGroup()
    first._connections, second._connections = {1: a, 2: c}, {0: b}
    second.announce_end("ended by SIGTERM during step 3. " + "é" * 500, status=143)

    def end(status):
        raise SystemExit(status)

    monkeypatch.setattr(processes.os, "_exit", end)
    with pytest.raises(SystemExit, match="143"):
        first._listen_to(1, a)
    assert capsys.readouterr().err.startswith("ended by SIGTERM during step 3. é")
    assert receive(d).startswith("ended 143 ended by SIGTERM during step 3. é")
    for connection in (a, b, c, d):
        connection.close()
