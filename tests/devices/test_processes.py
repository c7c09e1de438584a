"""Tests the real command on one device, on eight, and in two processes of four devices.

The run is the same wherever it continues, and a process that loses another one ends with a message.
"""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from distilbert_jax.config import experiment_file
from distilbert_jax.devices import processes, rendezvous
from distilbert_jax.hub.smoke import make_smoke_experiment
from distilbert_jax.io import files
from distilbert_jax.runtime import metrics_log
from tests.conftest import ROOT
from tests.train.distill.test_loop import assert_same_run, logged

PATIENCE = 200  # seconds; a test that waits longer fails
LOSS_TIMEOUT_SECONDS = 10  # until the other processes have ended

FILE = """
import dataclasses
from distilbert_jax.config import experiment_file
from distilbert_jax.config.experiment import Masking, Pretrained, Student
from distilbert_jax.data.sources.files import TextFiles
from distilbert_jax.data.shards.prepare import Corpus

def experiment():
    return dataclasses.replace(
        experiment_file.load_experiment("{quickstart}"),
        teacher=Pretrained("{folder}/teacher", family="bert"),
        student=Student(layers=(0, 1)),
        corpus=Corpus(
            sources={{"tiny": TextFiles("{folder}/corpus.txt")}},
            shard_dir="{folder}/shards",
            sequence_length=64,
            held_out=0.2,
        ),
        masking=Masking(smoothing=0.7),
        steps=12,
        global_batch_size=16,
        per_device_batch_size=1,
        eval_rows=16,
        eval_every=12,
        checkpoint_every=3,
        log_every=1,
    )
"""


def tiny(folder: pathlib.Path) -> pathlib.Path:
    """Writes an experiment file with its teacher and text to a folder, and returns its path."""
    quickstart = ROOT / "experiments" / "quickstart.py"
    make_smoke_experiment(experiment_file.load_experiment(quickstart), folder)
    (folder / "experiment.py").write_text(FILE.format(folder=folder, quickstart=quickstart))
    return folder / "experiment.py"


def environment(*, devices: int) -> dict[str, str]:
    return os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "PYTHONPATH": str(ROOT)}


def places(processes: int) -> list[str]:
    """Returns I/N@HOST:PORT for each of so many processes."""
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    return [f"{i}/{processes}@localhost:{port}" for i in range(processes)]


def start(commands: list[list[str]], env: dict[str, str]) -> list[subprocess.Popen]:
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return [subprocess.Popen([sys.executable, "-m", *command], env=env, cwd=ROOT, **pipes) for command in commands]


def ended(process) -> tuple[int, str]:
    """Waits for the end of a process; returns (exit status, its stderr)."""
    stderr = process.communicate(timeout=PATIENCE)[1]
    return process.returncode, stderr


class Command:
    """Runs `distill` with a tiny experiment, in one process or several."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self._file = tiny(folder)

    def start(self, workdir: str, *changes: str, processes: int = 1, devices: int):
        """Starts the processes and returns them."""
        command = ["distilbert_jax", "distill", str(self._file), f"workdir={self.folder / workdir}", *changes]
        each = [["--distributed", place] for place in places(processes)] if processes > 1 else [[]]
        return start([command + more for more in each], environment(devices=devices))

    def run(self, workdir: str, *changes: str, **how):
        """Runs to the end and returns the run's folder."""
        for status, stderr in map(ended, self.start(workdir, *changes, **how)):
            assert status == 0, stderr
        return self.folder / workdir

    def reaches(self, workdir: str, step: int, running) -> None:
        """Waits until a checkpoint of `step` or later is complete."""
        for _ in range(PATIENCE * 100):
            if any(saved >= step for saved in saved_steps(self.folder / workdir)):
                return
            assert all(process.poll() is None for process in running), "a process ended too early"
            time.sleep(0.01)
        raise AssertionError("too slow")


def saved_steps(folder: pathlib.Path) -> list[int]:
    return [int(path.stem) for path in (folder / "checkpoints").glob("*.sha256") if path.stem.isdigit()]


def message(stderr: str) -> str:
    """Returns the lines of stderr that the package wrote; gRPC and gloo write there too."""
    return "\n".join(line for line in stderr.splitlines() if line.startswith(("error:", "ended by", "Traceback")))


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    return Command(tmp_path_factory.mktemp("hosts"))


@pytest.fixture(scope="module")
def whole(command):
    """The folder of a run of two processes that nothing interrupted."""
    return command.run("whole", processes=2, devices=4)


LAST_PLACE = float(np.spacing(np.float32(4.0)))
"""Of the logarithm of a probability of one in fifty words and more: a divergence is a mean of differences of these, so
float32 knows it no better, however near 0 it is.
"""


def close(a: pathlib.Path, b: pathlib.Path) -> None:
    """The same run to rounding."""
    for ours, theirs in zip(logged(a), logged(b), strict=True):
        assert ours.keys() == theirs.keys()
        for name in ("loss", "loss/soft", "loss/hard", "loss/cosine", "grad_norm"):
            if name in ours:
                where = f"step {ours['step']} {name}"
                np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4, atol=LAST_PLACE, err_msg=where)


@pytest.mark.parametrize("devices", [1, 8])
def test_one_process_makes_the_same_run(command, whole, prove, devices):
    if not prove:
        pytest.skip("in `make prove`; the sums of one and of several are compared in test_topology.py")
    close(command.run(f"on{devices}", devices=devices), whole)


def test_whichever_process_is_asked_to_end_or_is_lost_a_restart_goes_on_exactly(command, whole, prove, figures):
    """SIGTERM to one of two: both save the same step and end with 143. One killed: the other ends with a message."""
    seconds = []
    for hit in (0, 1) if prove else (1,):
        name, other = f"hit{hit}", 1 - hit
        running = command.start(name, processes=2, devices=4)
        command.reaches(name, 3, running)
        running[hit].send_signal(signal.SIGTERM)
        results = [ended(process) for process in running]
        assert [status for status, _ in results] == [143, 143], results
        saved = max(saved_steps(command.folder / name))
        assert saved == metrics_log.read_log(command.folder / name, "train")[-1]["step"]
        assert all(f"ended by SIGTERM after step {saved}; everything is saved" in text for _, text in results)
        shutil.copytree(command.folder / name, command.folder / f"elastic{hit}")

        running = command.start(name, processes=2, devices=4)
        command.reaches(name, saved + 1, running)
        running[hit].kill()
        at = time.perf_counter()
        status, text = ended(running[other])
        seconds.append(time.perf_counter() - at)
        assert ended(running[hit])[0] == -signal.SIGKILL
        assert status == 1
        lost = f"error: process {hit} (its connection closed) of this run's 2 processes was lost"
        assert message(text).startswith(f"{lost}, so process {other} ends too"), text
        assert "\n" not in message(text)
        assert seconds[-1] < LOSS_TIMEOUT_SECONDS
        assert_same_run(command.run(name, processes=2, devices=4), whole)
        # Saved by two processes, it goes on in one, whose devices share the parameters.
        close(command.run(f"elastic{hit}", "fsdp=2", devices=2), whole)
    figures(
        "test_whichever_process_is_asked_to_end_or_is_lost_a_restart_goes_on_exactly",
        f"{len(seconds)} SIGTERM, {len(seconds)} kills, bit-identical; others end within {max(seconds):.1f} s",
    )


def test_processes_share_parameters(command, whole):
    """No process holds all parameters, but the export has all of them."""
    shared = command.run("shared", "fsdp=4", "tensor=2", processes=2, devices=4)
    close(shared, whole)
    actual, expected = (load_file(folder / "export" / "model.safetensors") for folder in (shared, whole))
    assert {name: x.shape for name, x in actual.items()} == {name: x.shape for name, x in expected.items()}


def test_a_run_of_eight_devices_goes_on_with_two(command, whole, prove):
    if not prove:
        pytest.skip("in `make prove`; from two processes to one is tested above")
    running = command.start("eight", devices=8)
    command.reaches("eight", 3, running)
    running[0].send_signal(signal.SIGTERM)
    assert ended(running[0])[0] == 143
    close(command.run("eight", devices=2), whole)


def test_an_error_that_all_come_to_is_said_by_all(command):
    for status, stderr in map(ended, command.start("all", "global_batch_size=12", processes=2, devices=4)):
        assert status == 1
        assert message(stderr) == "error: global_batch_size=12 is not divisible by 8 devices: choose a multiple of 8"


def test_an_error_of_one_is_said_by_it_and_ends_the_others(command):
    with files.lock_folder(command.folder / "held"):
        running = command.start("held", processes=2, devices=4)
        (first_status, first_stderr), (second_status, second_stderr) = map(ended, running)
    assert (first_status, second_status) == (1, 1)
    assert message(first_stderr).startswith(f"error: {command.folder / 'held'} is in use by another process")
    lost = "error: process 0 (it ended with an error) of this run's 2 processes was lost, so process 1 ends too"
    assert message(second_stderr).startswith(lost)


@pytest.mark.parametrize("where", ["0", "2/2@localhost:1", "a/b@c:d", "0/2@localhost", "1/2"])
def test_a_wrong_process_says_how_to_write_one(where):
    with pytest.raises(ValueError, match=r"write I/N@HOST:PORT, such as 0/2@localhost:9876, or auto"):
        processes.init_distributed(where)


def joins(places: list[str], timeout_seconds: float = 3.0) -> list[tuple[int, str]]:
    """Starts processes with these values of `--distributed` at the same time; returns (status, stderr) of each."""
    code = "import sys; from distilbert_jax.cli import main as m; from distilbert_jax.devices import processes; "
    code += f"processes.CONNECT_TIMEOUT_SECONDS = {timeout_seconds}; "
    code += "sys.exit(m.main(['distill', 'experiments/quickstart.py', '--distributed', sys.argv[1]]))"
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    return list(map(ended, [subprocess.Popen([sys.executable, "-c", code, place], **pipes) for place in places]))


def test_a_process_that_finds_nobody_says_so():
    ((status, stderr),) = joins(["1/2@localhost:9"])
    assert status == 1
    assert stderr.startswith(
        "error: --distributed 1/2@localhost:9: process 0 could not be reached at localhost:9 within 3 s"
    )


def test_who_does_not_come_is_named_on_all_that_came():
    first, *_, last = places(4)
    for status, stderr in joins([first, last], timeout_seconds=10.0):
        assert status == 1
        told = "the run has 4 processes, but processes 1, 2 did not connect within 10 s. Start every process"
        assert re.match(f"error: --distributed ./4@.*: {told}", stderr), stderr


def test_places_that_do_not_fit_together_are_named_on_all():
    first, second = places(2)
    for status, stderr in joins([first, second.replace("1/2@", "1/3@")], timeout_seconds=30.0):
        assert (status, stderr.partition(": process 1 ")[2].strip()) == (
            1,
            "was started as one of 3, but process 0 as one of 2; start all of them with the same N",
        )
    first, second, _ = places(3)
    results = joins([first, second, second], timeout_seconds=30.0)
    assert [status for status, _ in results] == [1, 1, 1]
    assert all(
        "two processes were started as 1/3; give each process its own number I" in stderr for _, stderr in results
    )


def test_a_stranger_on_the_port_is_nobody():
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    came = threading.Thread(
        target=rendezvous.rendezvous, args=(f"localhost:{port}", 0, 2), kwargs={"timeout_seconds": 30.0}
    )
    came.start()
    for request in (b"GET / HTTP/1.1\r\n\r\n", b"", b"x" * 5_000):
        with contextlib.suppress(OSError), socket.create_connection(("localhost", port)) as line:
            line.sendall(request + b"\n")
    rendezvous.rendezvous(f"localhost:{port}", 1, 2, timeout_seconds=30.0)
    came.join(10)
    assert not came.is_alive()
