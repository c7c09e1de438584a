"""Downloads and uploads a run whose folder is in an object store.

A run is downloaded before it continues and uploaded at every checkpoint. The folder in the store is the authoritative
one. Only process 0 writes to it, and every machine downloads its own copy.
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
from distilbert_jax.io.console import print_damage
from distilbert_jax.io.folder_marker import MARKER_FILE

SMALL_FOLDERS = ("tensorboard/", "student/")
"""Uploaded together with the files at the top of a run folder."""


def download_run(run: remote_folder.RemoteFolder, *, all_checkpoints: bool = False) -> None:
    """Downloads the small files of a run and its newest complete checkpoint, or all checkpoints and the export.

    A checkpoint that cannot be downloaded completely is skipped with a message, and an older one is used.

    Args:
        run: the folder of the run in the store.
        all_checkpoints: whether to download all checkpoints and the export, not only the newest checkpoint.

    Raises:
        ConnectionError: none of the checkpoints can be downloaded.
    """
    if all_checkpoints:
        (run / "export").download()
    run.download_loose(include=lambda name: "/" not in name or name.startswith(SMALL_FOLDERS))
    checkpoints = run / "checkpoints"
    steps = sorted((int(name) for name in checkpoints.list_complete() if name.isdigit()), reverse=True)
    # A checkpoint that is no longer in the store would otherwise look like the newest one of the run.
    for path in checkpoints.copy.glob("*.sha256"):
        if path.stem.isdigit() and int(path.stem) not in steps:
            files.remove(path.with_suffix(""))
            path.unlink()
    num_downloaded = 0
    for number, step in enumerate(steps, 1):
        try:
            num_downloaded += (checkpoints / str(step)).download()
        except ConnectionError as error:
            if number == len(steps) and not num_downloaded:
                raise
            print_damage(f"Checkpoint {checkpoints}/{step} is skipped: {error}.")
        if num_downloaded and not all_checkpoints:
            return


def upload_run(run: remote_folder.RemoteFolder) -> None:
    """Uploads the current content of the small files of a run: log, settings, results and TensorBoard events."""
    # The marker goes first: without it, the other files would look like files of the user after a crash.
    run.upload_file(MARKER_FILE)
    folders = [run.copy, *(run.copy / name for name in SMALL_FOLDERS)]
    for path in sorted(path for folder in folders for path in folder.glob("*")):
        if path.is_file() and path.suffix != ".partial" and path.name != files.LOCK:
            run.upload_file(path.relative_to(run.copy).as_posix())


def gather_to_first(state: Any) -> Any:
    """Returns a state that is sharded over processes as NumPy arrays, which process 0 can save alone.

    The arrays are copied from the devices one at a time, so that their memory holds only one additional array. In a
    single process, the state is returned unchanged.
    """
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return state
    return jax.tree.map(lambda x: np.asarray(multihost_utils.process_allgather(x, tiled=True)), state)


@contextlib.contextmanager
def first_process_only() -> Iterator[None]:
    """Makes Orbax write in process 0 without the others inside the `with` block: they do not share its disk."""
    options = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0}, barrier_sync_key_prefix="first")
    # Orbax 0.12 compares the folder's name over all processes, also over inactive ones, and would wait forever.
    skip_check = mock.patch.object(execution, "_check_directory_consistency", return_value=None)
    with skip_check, ocp.Context(multiprocessing_options=options):
        yield
