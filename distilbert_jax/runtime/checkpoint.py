"""Saves and restores the TrainState of a run with Orbax, and checks every byte by its SHA-256.

    checkpoints/1000/         what Orbax wrote for step 1000
    checkpoints/1000.sha256   the SHA-256 hashes of these files, written last

A step whose hash file is missing, or whose files have other hashes, is not a valid checkpoint. Orbax itself does not
check the bytes of arrays: without the hashes, a flipped bit would be loaded without an error. If the run is in an
object store, each checkpoint is uploaded after it is complete on this machine.
"""

import concurrent.futures
import contextlib
import pathlib
import shutil
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from distilbert_jax.devices.processes import broadcast_first, is_first
from distilbert_jax.io import files, untrusted
from distilbert_jax.io.console import print_damage
from distilbert_jax.io.remote_folder import RemoteFolder
from distilbert_jax.runtime.remote_run import first_process_only, gather_to_first
from distilbert_jax.types import TrainState

NO_STEP = -1
"""Sent to the other processes if the first one has no checkpoint: only numbers can be broadcast."""


class Checkpoints:
    """The checkpoints of a run, saved in the background while training continues.

    Args:
        folder: the folder that holds the checkpoints. It is created by the first save or restore.
        keep: how many checkpoints are kept. An older one is deleted when a newer one is complete.
        stored: the folder in an object store to which every checkpoint is uploaded, or None.
    """

    def __init__(self, folder: pathlib.Path, *, keep: int, stored: RemoteFolder | None = None):
        self._folder = folder.absolute()
        self._stored = stored
        self._keep = keep
        self._opened = False
        self._pending_save: concurrent.futures.Future[None] | None = None
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="checkpoint")

    def steps(self) -> list[int]:
        """Returns the steps that have a hash file, oldest first. Their files are not checked."""
        return sorted(int(path.stem) for path in self._folder.glob("*.sha256") if path.stem.isdigit())

    def save(self, state: TrainState, *, step: int) -> None:
        """Starts to save `state`, and returns as soon as its buffers may be donated.

        Raises:
            OSError: the previous save failed, for example because the disk is full.
        """
        self.wait()
        if self._stored:
            state = gather_to_first(state)
            if not is_first():
                return
        self._open()
        # If the disk refuses new folders, Orbax's threads would wait five minutes. A small file shows it at once.
        probe = self._folder / f"{step}.{jax.process_index()}.partial"
        probe.touch()
        probe.unlink()
        with first_process_only() if self._stored else contextlib.nullcontext():
            response = ocp.save_async(self._folder / str(step), state)
        self._pending_save = self._thread.submit(self._finish, response, step)

    def wait(self) -> None:
        """Waits until the last save is complete on disk.

        Raises:
            OSError: the save failed.
        """
        if self._pending_save is not None:
            pending_save, self._pending_save = self._pending_save, None
            try:
                pending_save.result()
            except ValueError as error:  # Orbax raises ValueError for errors of the disk, too
                disk_error = files.disk_error(error, self._folder)
                message = f"checkpoint not written: {disk_error.strerror}"
                raise OSError(disk_error.errno, message, str(self._folder)) from error

    def format_last(self) -> str:
        """Returns a sentence that names the newest checkpoint, for the message of a run that has to stop."""
        self.wait()
        if not (steps := self.steps()):
            return "There is no checkpoint yet, so the same command starts again from step 0"
        return f"The last good checkpoint is {self._folder / str(steps[-1])}, and the same command continues from it"

    def close(self) -> None:
        """Waits for the last save, and ends the background thread."""
        self.wait()
        self._thread.shutdown()

    def restore(self, like: TrainState) -> tuple[TrainState, int] | None:
        """Returns the newest valid checkpoint and its step, or None if there is no checkpoint.

        A damaged checkpoint is renamed to STEP.damaged, with a message on the screen, and the one before it is used.

        Args:
            like: a state with the shapes, types and shardings that the restored state shall have.

        Raises:
            ValueError: there were checkpoints, and all of them are damaged.
        """
        step = broadcast_first(self._find_newest_valid() if is_first() else NO_STEP)
        if step == NO_STEP:
            return None
        return self._load(step, like), step

    def _find_newest_valid(self) -> int:
        """Returns the newest valid step or NO_STEP, after deleting what a crash left half written."""
        self._open()
        for path in self._folder.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(path)
        for path in self._folder.glob("*.partial"):
            path.unlink()
        for path in self._folder.glob("*"):
            if path.name.isdigit() and int(path.name) not in self.steps():
                self._set_aside(int(path.name), "its hash file was never written")
        for step in reversed(self.steps()):
            damage = self._find_damage(step)
            if damage is None:
                self._remove_old()  # the process may have been killed before it could do this after the last save
                return step
            self._set_aside(step, damage)
        # Starting from step 0 without asking would overwrite a run that a copy of a checkpoint could still continue.
        if damaged := sorted(path.stem for path in self._folder.glob("*.damaged.sha256")):
            raise ValueError(
                f"all checkpoints in {self._folder} are damaged ({', '.join(damaged)}). Put back a copy of one, "
                "together with its .sha256 file, or delete the folder: the same command then starts again from step 0"
            )
        return NO_STEP

    def peek(self, like: TrainState, *, before: int) -> tuple[TrainState, int] | None:
        """Returns the newest valid checkpoint before step `before` and its step, or None, and changes nothing on disk.

        Args:
            like: a state with the shapes, types and shardings that the restored state shall have.
            before: only checkpoints of earlier steps are considered.
        """
        for step in reversed([step for step in self.steps() if step < before]):
            damage = self._find_damage(step)
            if damage is None:
                return self._load(step, like), step
            self._print_skipped(step, damage)
        return None

    def load_student(self, shapes: Any, *, step: int | None) -> tuple[Any, int]:
        """Returns the student's parameters of a checkpoint, in the memory of the CPU, and its step.

        Nothing changes on disk, and the run that writes the checkpoints may still be going on.

        Args:
            shapes: the tree of the student's parameters as shapes and types.
            step: the step of the checkpoint, or None for the newest one that is valid.

        Raises:
            ValueError: there is no such checkpoint, or it is damaged.
        """
        steps = self.steps()
        if not steps:
            raise ValueError(f"{self._folder} has no complete checkpoint yet")
        if step is not None and step not in steps:
            raise ValueError(
                f"{self._folder} has no complete checkpoint of step {step}; its steps are {', '.join(map(str, steps))}"
            )
        for candidate in [step] if step is not None else reversed(steps):
            if damage := self._find_damage(candidate):
                self._print_skipped(candidate, damage)
                continue
            try:
                return self._load_student(candidate, shapes), candidate
            except (OSError, ValueError):
                if candidate in self.steps():
                    raise
                # The run has just deleted it, because newer ones are complete.
                return self.load_student(shapes, step=step)
        raise ValueError(f"no checkpoint in {self._folder} is valid; name another one with --step")

    def _open(self) -> None:
        """Creates the folder once. If it is deleted later, Orbax would create a new one, without the earlier steps."""
        if self._opened and not self._folder.is_dir():
            raise ValueError(
                f"{self._folder} was deleted or moved during the run; do not change the folder of a run. The same "
                "command starts again from step 0"
            )
        self._folder.mkdir(parents=True, exist_ok=True)
        self._opened = True

    def _load_student(self, step: int, shapes: Any) -> Any:
        """Loads the student's parameters alone, without the optimizer and the parameters of losses."""
        cpu = jax.sharding.SingleDeviceSharding(jax.local_devices(backend="cpu")[0])
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=cpu), shapes)
        context = ocp.Context()
        context.pytree.loading.partial_load = True
        with context:
            return ocp.load(self._folder / str(step), {"params": {"student": like}})["params"]["student"]

    def _load(self, step: int, like: TrainState) -> TrainState:
        """Loads a step with the shapes and shardings of `like`."""
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
        return ocp.load(self._folder / str(step), shapes)

    def _finish(self, response: Any, step: int) -> None:
        """Waits for Orbax, then writes the hashes, deletes old checkpoints and uploads the new one."""
        response.result()
        if not is_first():
            return
        hashes = files.folder_hashes(self._folder / str(step))
        files.write_json(self._hash_file(step), hashes)
        self._remove_old()
        if self._stored:
            (self._stored / str(step)).upload(hashes)
            for old in sorted(map(int, self._stored.list_complete()))[: -self._keep]:
                (self._stored / str(old)).remove()

    def _remove_old(self) -> None:
        """Deletes all but the newest `keep` checkpoints."""
        for old in self.steps()[: -self._keep]:
            # The hash file goes last: if the process is killed in between, the next call finds the rest by it.
            files.remove(self._folder / str(old))
            self._hash_file(old).unlink()

    def _find_damage(self, step: int) -> str | None:
        """Returns what is wrong with a checkpoint as part of a sentence, or None if it is valid."""
        try:
            expected = untrusted.read_json(self._hash_file(step), dict[str, str])
            actual = files.folder_hashes(self._folder / str(step))
        except OSError as error:
            return f"{error.filename} cannot be read: {error.strerror}"
        except ValueError:
            return "its hash file cannot be read"
        wrong = sorted(name for name in expected | actual if expected.get(name) != actual.get(name))
        return f"{wrong[0]} is {'missing' if wrong[0] not in actual else 'not what was written'}" if wrong else None

    def _print_skipped(self, step: int, damage: str) -> None:
        """Prints that a damaged checkpoint is not used."""
        print_damage(f"Checkpoint {self._folder / str(step)} is skipped: {damage}.")

    def _set_aside(self, step: int, reason: str) -> None:
        """Renames a damaged checkpoint to STEP.damaged, and prints the reason."""
        print_damage(
            f"Checkpoint {self._folder / str(step)} is damaged or incomplete: {reason}. It was renamed to "
            f"{step}.damaged."
        )
        damaged_folder = self._folder / f"{step}.damaged"
        files.remove(damaged_folder)
        if self._hash_file(step).exists():  # the save was complete once
            self._hash_file(step).replace(self._folder / f"{step}.damaged.sha256")
        if (self._folder / str(step)).exists():
            (self._folder / str(step)).rename(damaged_folder)

    def _hash_file(self, step: int) -> pathlib.Path:
        """Returns the path of the hash file of a step."""
        return self._folder / f"{step}.sha256"
