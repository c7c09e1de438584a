"""The real command with run, shards and teacher in an object store, in two processes that do not share a disk."""

import hashlib
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from distilbert_jax.io import files
from distilbert_jax.runtime import metrics_log
from tests.conftest import ROOT
from tests.devices.test_processes import PATIENCE, environment, message, places, tiny
from tests.helpers import objects
from tests.train.distill.test_loop import assert_same_run

RUN = "s3://bucket/runs/mine"
FEW = ("per_device_batch_size=2", "steps=9", "eval_every=9")


class Machines:
    """Two machines, each with one process, two devices and its own cache, and a store that both can reach."""

    def __init__(self, folder: pathlib.Path, store: objects.Store):
        self.folder, self.store = folder, store
        self._file = tiny(folder)
        for path in (folder / "teacher").iterdir():
            store.write(f"teacher/{path.name}", path.read_bytes())

    def start(self, cache: str, *changes: str) -> list[subprocess.Popen]:
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        command = [sys.executable, "-m", "distilbert_jax", "distill", self._file, *FEW, *changes]
        return [
            subprocess.Popen([*command, "--distributed", place], env=self.environment(f"{cache}{i}"), **pipes)
            for i, place in enumerate(places(2))
        ]

    def start_stored(self, cache: str) -> list[subprocess.Popen]:
        return self.start(
            cache, f"workdir={RUN}", "corpus.shard_dir=s3://bucket/shards", "teacher.name_or_path=s3://bucket/teacher"
        )

    def environment(self, cache: str) -> dict[str, str]:
        return environment(devices=2) | self.store.environment(self.folder / cache)

    def copy(self, cache: str) -> pathlib.Path:
        return self.folder / cache / "distilbert_jax" / "stored" / "s3" / "bucket"

    def uploaded_steps(self) -> list[int]:
        """Returns the steps whose checkpoints were uploaded completely, in order."""
        keys = [
            pathlib.PurePosixPath(key) for key in self.store.keys("PUT") if key.startswith("runs/mine/checkpoints/")
        ]
        return [int(key.stem) for key in keys if key.suffix == ".sha256"]


def wait_for(running: list[subprocess.Popen]) -> list[tuple[int, str]]:
    """Returns the exit status and the error output of every process."""
    return [(process.returncode, text) for process in running for text in process.communicate(timeout=PATIENCE)[1:]]


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    with objects.serve() as store:
        yield Machines(tmp_path_factory.mktemp("stored"), store)


@pytest.fixture(scope="module")
def uninterrupted(machines):
    """The folder of a run on disk that nothing interrupted."""
    for status, text in wait_for(machines.start("disk", f"workdir={machines.folder / 'uninterrupted'}")):
        assert status == 0, text
    return machines.folder / "uninterrupted"


def test_a_killed_run_continues_on_other_machines_from_the_last_complete_upload(machines, uninterrupted):
    running = machines.start_stored("first")
    for _ in range(PATIENCE * 100):
        if len(machines.uploaded_steps()) >= 2:
            break
        assert all(process.poll() is None for process in running), wait_for(running)
        time.sleep(0.01)
    for process in running:
        process.send_signal(signal.SIGKILL)
    wait_for(running)
    saved = max(machines.uploaded_steps())
    assert saved < 9

    machines.store.requests.clear()
    for status, text in wait_for(machines.start_stored("second")):
        assert status == 0, text
    copy = machines.copy("second0")
    assert min(machines.uploaded_steps()) > saved
    assert_same_run(copy / "runs" / "mine", uninterrupted)
    for folder in ("shards", "runs/mine/export", "runs/mine/checkpoints/9"):
        stored = {name: machines.store.read(f"{folder}/{name}") for name in files.folder_hashes(copy / folder)}
        assert {name: hashlib.sha256(x).hexdigest() for name, x in stored.items()} == files.folder_hashes(copy / folder)
    assert machines.store.keys("PUT")[-1] == "runs/mine/export.sha256"
    # Each machine downloaded the shards once. The second neither wrote to nor read from a disk of the first.
    shards = [key for key in machines.store.keys("GET") if key.startswith("shards/")]
    assert sorted(shards) == sorted(2 * list(set(shards)))
    assert files.folder_hashes(machines.copy("second1") / "shards") == files.folder_hashes(copy / "shards")
    assert not (machines.copy("second1") / "runs" / "mine" / "export").exists()


def test_an_uploaded_run_is_read_like_a_folder(machines, uninterrupted, tmp_path):
    """By the report command, and as a model."""
    env = machines.environment("third")
    report = subprocess.run(
        [sys.executable, "-m", "distilbert_jax", "report", RUN], env=env, cwd=ROOT, capture_output=True, text=True
    )
    assert report.returncode == 0, report.stderr
    assert metrics_log.read_log(machines.copy("third") / "runs" / "mine", "eval") == metrics_log.read_log(
        machines.copy("second0") / "runs" / "mine", "eval"
    )
    code = "import sys; from distilbert_jax.config.experiment import Pretrained; "
    code += "from distilbert_jax.hub.load import load_pretrained; "
    code += "load_pretrained(Pretrained(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, f"{RUN}/export"], env=env, cwd=ROOT, check=True)


@pytest.mark.parametrize(
    "change, expected",
    [
        (
            "workdir=s3://other/run",
            "error: s3://other/run.* bucket does not exist. Check the bucket's name and the credentials",
        ),
        (
            "teacher.name_or_path=s3://bucket/nothing",
            "error: there is no model at s3://bucket/nothing: the folder has no files",
        ),
        ("corpus.shard_dir=s3://bucket", "error: s3://bucket is not the address of a folder"),
    ],
)
def test_a_bad_address_is_reported_in_one_line_by_every_process(machines, change, expected):
    first, second = wait_for(machines.start("bad", f"workdir={machines.folder / 'bad'}", change))
    assert first[0] == second[0] == 1
    assert re.match(expected, message(first[1])), first[1]
    assert re.match(
        f"{expected}|error: process 0 .it ended with an error. of this run's 2 processes was lost", message(second[1])
    )
    assert "\n" not in message(first[1]) + message(second[1])
