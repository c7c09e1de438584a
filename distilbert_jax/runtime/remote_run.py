"""A run whose folder is in an object store: brought here before it goes on, sent there at every checkpoint.

What the store has is the run. Process 0 alone writes to it; every machine brings its own copy.
"""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp
from orbax.checkpoint.experimental.v1._src.saving import execution

from distilbert_jax.io import files, remote_folder
from distilbert_jax.io.console import console

BESIDE = "tensorboard/"  # with the files right in the folder, what is small


def download_run(run: remote_folder.RemoteFolder, *, every: bool = False) -> None:
    """Makes the copy what the store has: of the checkpoints the newest, or `every` one and the export, too. One
    that cannot be had whole is passed over, loudly, for an older one. ConnectionError where that is so of all.
    """
    if every:
        (run / "export").download()
    run.download_loose(include=lambda name: "/" not in name or name.startswith(BESIDE))
    checkpoints = run / "checkpoints"
    steps = sorted((int(name) for name in checkpoints.list_complete() if name.isdigit()), reverse=True)
    for path in checkpoints.copy.glob("*.sha256"):
        if path.stem.isdigit() and int(path.stem) not in steps:
            files.remove(path.with_suffix(""))
            path.unlink()
    whole = 0
    for number, step in enumerate(steps, 1):
        try:
            whole += (checkpoints / str(step)).download()
        except ConnectionError as error:
            if number == len(steps) and not whole:
                raise
            console.print(f"[bold red]checkpoint {checkpoints}/{step} is passed over: {error}[/]")
        if whole and not every:
            return


def upload_run(run: remote_folder.RemoteFolder) -> None:
    """The small files, as they are now."""
    for path in sorted([*run.copy.glob("*"), *(run.copy / BESIDE).glob("*")]):
        if path.is_file() and path.suffix != ".partial" and path.name != files.LOCK:
            run.upload_file(path.relative_to(run.copy).as_posix())


def gather_to_first(state: Any) -> Any:
    """All of a state that processes share, as process 0 can write it alone: one array at a time leaves the devices."""
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return state
    return jax.tree.map(lambda x: np.asarray(multihost_utils.process_allgather(x, tiled=True)), state)


@contextlib.contextmanager
def first_process_only() -> Iterator[None]:
    """Within it, Orbax writes in process 0 and asks no other: their disks are not its own."""
    alone = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0}, barrier_sync_key_prefix="first")
    # Orbax 0.12 compares the folder's name over all processes, whoever is active, and would wait for ever.
    agree = mock.patch.object(execution, "_check_directory_consistency", return_value=None)
    with agree, ocp.Context(multiprocessing_options=alone):
        yield
