"""Locates the folder of a run, and keeps another run from continuing in it.

The marker of the folder records the identity of its run: the fields of the experiment, and the hashes of the files that
the run read and of its code.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, TypedDict

import jax

import distilbert_jax
from distilbert_jax.config.experiment import RESUMABLE_FIELDS, Experiment
from distilbert_jax.config.experiment_file import differences
from distilbert_jax.devices.processes import is_first
from distilbert_jax.io import folder_marker, remote_folder, untrusted
from distilbert_jax.io.console import print_warning
from distilbert_jax.io.folder_marker import check_format
from distilbert_jax.messages import format_differences
from distilbert_jax.runtime.metrics_log import LOG_FILE

RUN_FORMAT = 3
"""Increase it whenever a key in log.jsonl or results.json, or a field of TrainState, changes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunIdentity:
    """What makes a run this run and no other.

    Attributes:
        config: the fields of the experiment, as `flatten` returns them.
        sha256: the hashes of the files that the run read, by role. None before they are read.
        code: the hashes of the experiment file and of the files next to it that it imports, by name. None if the
            experiment was not made by a file.
    """

    config: Mapping[str, Any]
    sha256: Mapping[str, str] | None = None
    code: Mapping[str, str] | None = None


class StoredIdentity(TypedDict):
    """The identity of a run as its folder's marker records it, with the versions of packages."""

    config: dict[str, Any]
    sha256: dict[str, str]
    code: dict[str, str]
    versions: dict[str, str]


def locate_run_folder(experiment: Experiment) -> pathlib.Path:
    """Returns the folder of a run on this machine. A run in an object store has a local copy."""
    return remote_folder.local_path(experiment.workdir or f"runs/{experiment.name}")


def read_identity(folder: pathlib.Path) -> StoredIdentity:
    """Returns the identity of the run in a folder.

    Raises:
        ValueError: the folder is not that of a distillation run, or another version of the package wrote it.
    """
    marker = folder_marker.read_marker(folder)
    if marker is None and not any((folder / name).is_file() for name in (LOG_FILE, "command.json")):
        what = "is not the folder of a run of `distill`" if folder.exists() else "does not exist"
        raise ValueError(f"{folder} {what}; name the folder of a run, such as runs/quickstart")
    if marker is not None and marker["made_by"] != "distill":
        raise ValueError(f"{folder} was made by `{marker['made_by']}`: it is not the folder of a run of `distill`")
    check_format(
        marker["format"] if marker else None,
        RUN_FORMAT,
        what=str(folder),
        remedy="to make the run again, run the same command with another workdir, or delete the folder first",
    )
    assert marker is not None
    identity: Any = marker["made_from"]
    untrusted.check_shape(identity, StoredIdentity, where=str(folder / folder_marker.MARKER_FILE))
    stored: StoredIdentity = identity
    return stored


def check_identity(folder: pathlib.Path, identity: RunIdentity, *, problem: str, may_change_code: bool = False) -> None:
    """Checks that the run in a folder has the given identity. Other versions of packages are reported on the screen.

    Args:
        folder: the folder of a run.
        identity: the identity of the run that wants the folder.
        problem: the first line of the error message.
        may_change_code: whether the code of the experiment may have changed.

    Raises:
        ValueError: the folder holds another run, or its code has changed. The message shows the differences.
    """
    stored = read_identity(folder)
    different = differences(stored["config"], identity.config, except_in=RESUMABLE_FIELDS)
    if identity.sha256 is not None:
        different |= _with_prefix("sha256", differences(stored["sha256"], identity.sha256))
    if different:
        if all(path.startswith("sha256.") for path in different):
            problem += ". Its settings are the same, but these files that it read have changed since"
        raise ValueError(f"{problem}:\n{format_differences(different, one='before', other='now')}")
    changed_files = differences(stored["code"], identity.code) if identity.code and stored["code"] else {}
    if changed_files and not may_change_code:
        raise ValueError(
            f"the code of the experiment has changed since the run in {folder} began: {', '.join(changed_files)}. "
            "Restore it, name another folder with workdir=FOLDER, or pass --changed-code to use the new code"
        )
    for package, (before, now) in differences(stored["versions"], _package_versions()).items():
        print_warning(
            f"The run in {folder} began with {package} {before}; this is {package} {now}. Numbers may differ in their "
            "last bits."
        )


def check_run_folder(folder: pathlib.Path, identity: RunIdentity, *, may_change_code: bool) -> None:
    """Checks that a run may write to a folder: that no other run has logged or saved anything there.

    Args:
        folder: the run folder, which need not exist.
        identity: the identity of the run.
        may_change_code: whether the code of the experiment may have changed since the run began.

    Raises:
        ValueError: the folder holds another run, or its code has changed.
    """
    if _has_begun(folder):
        problem = (
            f"{folder} holds the run of another experiment; name another folder with workdir=FOLDER or --smoke FOLDER"
        )
        check_identity(folder, identity, problem=problem, may_change_code=may_change_code)


def claim_run_folder(folder: pathlib.Path, identity: RunIdentity) -> None:
    """Records that the folder belongs to a run, after `check_run_folder`. Only the first process writes."""
    if is_first():
        stored = StoredIdentity(
            config=dict(identity.config),
            sha256=dict(identity.sha256 or {}),
            code=dict(identity.code or {}),
            versions=_package_versions(),
        )
        folder_marker.write_marker(folder, "distill", format=RUN_FORMAT, made_from=stored)


def _has_begun(folder: pathlib.Path) -> bool:
    """Returns whether a run has left anything in its folder that another run would overwrite."""
    log = folder / LOG_FILE
    return (log.is_file() and log.stat().st_size > 0) or any(folder.glob("checkpoints/*.sha256"))


def _package_versions() -> dict[str, str]:
    """Returns the versions whose change is reported, because it may change the last bits of numbers."""
    return {"distilbert_jax": distilbert_jax.__version__, "jax": jax.__version__}


def _with_prefix(prefix: str, pairs: Mapping[str, tuple[Any, Any]]) -> dict[str, tuple[Any, Any]]:
    """Returns the same pairs, with a prefix before each field path."""
    return {f"{prefix}.{path}": pair for path, pair in pairs.items()}
