"""The launch scripts start the real command, as one run of two processes, and start it again as they say."""

import os
import pathlib
import re
import signal
import stat
import subprocess
import sys
import time

import pytest
import yaml

from distilbert_jax.cli.parser import make_parser
from distilbert_jax.config import experiment_file
from distilbert_jax.devices import processes
from tests.conftest import ROOT
from tests.devices.test_processes import saved_steps, tiny

LAUNCH = ROOT / "experiments" / "launch"

SRUN = """#!{python}
import os, signal, subprocess, sys
words = sys.argv[2:]  # without --kill-on-bad-exit=0
each = [os.environ | {{"SLURM_PROCID": str(i), "SLURM_NTASKS": "2"}} for i in range(2)]
tasks = [subprocess.Popen(words, env=env) for env in each]
open("srun.pid", "w").write(str(os.getpid()))
signal.signal(signal.SIGTERM, lambda *_: [task.terminate() for task in tasks])
sys.exit(max(task.wait() for task in tasks))
"""
SCONTROL = '#!/bin/bash\nif [ "$1" = show ]; then echo localhost; else echo "$@" >> requeued; fi\n'
GCLOUD = '#!/bin/bash\nprintf "%s\\n" "$@" >> asked\nexit $(cat status)\n'


def program(folder: pathlib.Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(stat.S_IRWXU)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A folder as Slurm would find it, with a tiny experiment, and the commands of a cluster first in the path."""
    tiny(tmp_path)
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin", "srun", SRUN.format(python=sys.executable))
    program(tmp_path / "bin", "scontrol", SCONTROL)
    program(tmp_path / "bin", "gcloud", GCLOUD)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    program(tmp_path / ".venv" / "bin", "python", f'#!/bin/bash\nexec {sys.executable} "$@"\n')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "2")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "localhost")
    monkeypatch.setenv("SLURM_JOB_ID", str(os.getpid()))
    return tmp_path


def slurm(folder, *words, **env):
    return subprocess.Popen([LAUNCH / "slurm.sh", *words], cwd=folder, env=os.environ | env)


def test_slurm_makes_one_run_and_requeues_it_where_its_time_is_over(cluster):
    """SIGTERM to the tasks, as `--signal=TERM@120` has it: saved, 143, back in the queue; the next start goes on to
    the end.
    """
    [file] = cluster.glob("*.py")
    words = (str(file), f"workdir={cluster / 'run'}")
    job = slurm(cluster, *words)
    while not saved_steps(cluster / "run"):
        assert job.poll() is None
        time.sleep(0.05)
    os.kill(int((cluster / "srun.pid").read_text()), signal.SIGTERM)
    assert job.wait() == 143
    assert (cluster / "requeued").read_text() == f"requeue {os.getpid()}\n"
    assert slurm(cluster, *words).wait() == 0
    assert (cluster / "run" / "export" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "restarts", "status", "requeued"),
    [
        (["missing.py"], "0", 1, True),
        (["missing.py"], "3", 1, False),
        (["--no-such-option"], "0", 2, False),
    ],
)
def test_slurm_does_not_try_for_ever(cluster, words, restarts, status, requeued):
    assert slurm(cluster, *words, SLURM_RESTART_COUNT=restarts).wait() == status
    assert (cluster / "requeued").exists() == requeued


@pytest.mark.parametrize(("status", "times"), [(0, 1), (2, 1), (143, 4)])
def test_a_tpu_pod_is_started_again(cluster, status, times):
    (cluster / "status").write_text(str(status))
    env = os.environ | {"TPU": "pod", "ZONE": "zone"}
    words = ["experiments/distilbert_base_uncased.py", "workdir=/a folder", "steps=10"]
    done = subprocess.run([LAUNCH / "tpu_pod.sh", *words], cwd=cluster, env=env, check=False)
    assert done.returncode == status
    asked = (cluster / "asked").read_text().splitlines()
    assert asked.count("pod") == times
    assert asked[asked.index("pod") + 1 : asked.index("pod") + 3] == ["--zone=zone", "--worker=all"]
    command = next(line for line in asked if line.startswith("--command="))
    args = given(command.split(" -m distilbert_jax ")[1].replace("\\ ", "_").split())
    assert args.distributed == "auto"
    assert args.overrides == ["workdir=/a_folder", "steps=10"]


def given(words):
    """The command's arguments, checked as it would."""
    args = make_parser().parse_args(words)
    experiment_file.apply_overrides(experiment_file.load_experiment(ROOT / args.file), args.overrides)
    return args


def test_the_job_set_says_the_same_thing_everywhere():
    manifest = yaml.safe_load((LAUNCH / "jobset.yaml").read_text())
    [workers] = manifest["spec"]["replicatedJobs"]
    job = workers["template"]["spec"]
    assert job["parallelism"] == job["completions"] == 2
    [container] = job["template"]["spec"]["containers"]
    words = [word.replace("$(INDEX)", "1") for word in container["command"] + container["args"]]
    args = given(words[3:])
    place, name = processes.parse_process(args.distributed), manifest["metadata"]["name"]
    assert place["coordinator_address"] == f"{name}-{workers['name']}-0-0.{name}:8476"
    assert (place["process_id"], place["num_processes"]) == (1, job["completions"])
    assert re.fullmatch(r"metadata.annotations\['.*index'\]", container["env"][0]["valueFrom"]["fieldRef"]["fieldPath"])
    [claim], [mount] = job["template"]["spec"]["volumes"], container["volumeMounts"]
    assert claim["name"] == mount["name"]
    assert args.overrides[0].startswith(f"workdir={mount['mountPath']}/")
