"""The folder of a run, and the text file in it that says which run it is, so that no other run continues it."""

import pathlib
from collections.abc import Collection, Mapping
from typing import Any

from distilbert_jax.config.experiment import RESUMABLE_FIELDS, Experiment
from distilbert_jax.config.experiment_file import describe
from distilbert_jax.devices.processes import is_first
from distilbert_jax.io import files, remote_folder, untrusted
from distilbert_jax.runtime.run_format import check_run_format, write_run_format

EXPERIMENT_FILE = "experiment.txt"
HASH_PREFIX = "sha256."


def locate_run_folder(experiment: Experiment) -> pathlib.Path:
    """Returns the folder of a run on this machine. A run in an object store has a local copy."""
    return remote_folder.local_path(experiment.workdir or f"runs/{experiment.name}")


def run_identity(config: Any, sha256: Mapping[str, str]) -> str:
    """Returns what makes a run this run: the fields of its config and the hashes of what it read, one a line."""
    return describe(config) + "".join(f"{HASH_PREFIX}{name}: {value}\n" for name, value in sha256.items())


def format_difference(before: str, now: str, *, resumable: Collection[str]) -> str:
    """Returns the lines in which two identities differ, or an empty text.

    Args:
        before: the identity that a folder records.
        now: the identity of the run that wants the folder. Hashes are compared only if it has any: a config is known
            before the files are read.
        resumable: the fields that may change when a run is resumed.
    """
    ignored = tuple(f"{field}: " for field in resumable)
    if not any(line.startswith(HASH_PREFIX) for line in now.splitlines()):
        ignored += (HASH_PREFIX,)
    old, new = ({line for line in text.splitlines() if not line.startswith(ignored)} for text in (before, now))
    shown = [f"  before  {line}" for line in sorted(old - new)]
    return "\n".join(shown + [f"  now     {line}" for line in sorted(new - old)])


def check_identity(path: pathlib.Path, identity: str, *, resumable: Collection[str], problem: str) -> None:
    """Raises ValueError, with the `problem` and the difference, if the file `path` records another run."""
    if difference := format_difference(untrusted.read_text(path), identity, resumable=resumable):
        raise ValueError(f"{problem}:\n{difference}")


def write_identity(path: pathlib.Path, identity: str) -> None:
    """Records in the file `path` which run a folder belongs to. Only the first process writes."""
    if is_first():
        with files.write_atomically(path) as partial:
            partial.write_text(identity, encoding="utf-8")


def claim_run_folder(folder: pathlib.Path, identity: str) -> None:
    """Records that the folder belongs to a distillation run.

    Raises:
        ValueError: the folder has checkpoints of another run.
    """
    path = folder / EXPERIMENT_FILE
    if path.is_file() and any(folder.glob("checkpoints/*.sha256")):
        check_run_format(folder)
        problem = f"{folder} holds another experiment's run; give this one a workdir of its own"
        check_identity(path, identity, resumable=RESUMABLE_FIELDS, problem=problem)
    if is_first():
        write_run_format(folder)
    write_identity(path, identity)
