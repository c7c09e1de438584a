"""Locates the folder of a run, and keeps another run from continuing in it.

A text file in the folder records the identity of its run: the settings, and the hashes of the files that it read.
"""

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
    """Returns the identity of a run: the fields of its config and the hashes of the files it read, one per line."""
    return describe(config) + "".join(f"{HASH_PREFIX}{name}: {value}\n" for name, value in sha256.items())


def format_difference(before: str, now: str, *, resumable: Collection[str]) -> str:
    """Returns the lines in which two identities differ, or an empty text.

    Args:
        before: the identity that a folder records.
        now: the identity of the run that wants the folder. Hashes are compared only if it has any: a config is known
            before the files are read.
        resumable: the fields that may change when a run is resumed.
    """
    # The ": " is part of the prefix, so that a resumable `keep` does not hide a change of `keep_all`.
    ignored = tuple(f"{field}: " for field in resumable)
    if not any(line.startswith(HASH_PREFIX) for line in now.splitlines()):
        ignored += (HASH_PREFIX,)
    old, new = ({line for line in text.splitlines() if not line.startswith(ignored)} for text in (before, now))
    shown = [f"  before  {line}" for line in sorted(old - new)]
    return "\n".join(shown + [f"  now     {line}" for line in sorted(new - old)])


def check_identity(path: pathlib.Path, identity: str, *, resumable: Collection[str], problem: str) -> None:
    """Checks that the file `path` records the given identity.

    Args:
        path: the file with the identity of the run that owns the folder.
        identity: the identity of the run that wants the folder.
        resumable: the fields that may change when a run is resumed.
        problem: the first line of the error message.

    Raises:
        ValueError: the file records another run. The message shows the fields in which the two differ.
    """
    if difference := format_difference(untrusted.read_text(path), identity, resumable=resumable):
        raise ValueError(f"{problem}:\n{difference}")


def write_identity(path: pathlib.Path, identity: str) -> None:
    """Records in the file `path` which run a folder belongs to. Only the first process writes."""
    if is_first():
        with files.write_atomically(path) as partial:
            partial.write_text(identity, encoding="utf-8")


def claim_run_folder(folder: pathlib.Path, identity: str) -> None:
    """Records that the folder belongs to a distillation run. A folder without checkpoints may be claimed by any run.

    Args:
        folder: the run folder.
        identity: the identity of the run, as `run_identity` returns it.

    Raises:
        ValueError: the folder has checkpoints of another run.
    """
    path = folder / EXPERIMENT_FILE
    if path.is_file() and any(folder.glob("checkpoints/*.sha256")):
        check_run_format(folder)
        problem = f"{folder} holds the run of another experiment; name another folder with workdir=FOLDER"
        check_identity(path, identity, resumable=RESUMABLE_FIELDS, problem=problem)
    if is_first():
        write_run_format(folder)
    write_identity(path, identity)
