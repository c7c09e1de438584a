"""Checkpoints: the TrainState, saved by Orbax while training goes on, with the SHA-256 of every byte beside it.

    checkpoints/1000/         what Orbax wrote
    checkpoints/1000.sha256   the sums of its files, written last: a step without them, or with others, is no checkpoint

Orbax itself checks no array bytes: a flipped bit would load in silence. A run in an object store has them there too,
sent when they are whole here.
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
from distilbert_jax.io.console import console
from distilbert_jax.io.remote_folder import RemoteFolder
from distilbert_jax.runtime.remote_run import first_process_only, gather_to_first
from distilbert_jax.types import TrainState

NO_STEP = -1  # no step


class Checkpoints:
    """The checkpoints of a run. Keeps the last `keep`: an older one goes when a newer one is whole."""

    def __init__(self, folder: pathlib.Path, *, keep: int, stored: RemoteFolder | None = None):
        self._folder = folder.absolute()
        self._stored = stored
        self._keep = keep
        self._opened = False
        self._saving: concurrent.futures.Future[None] | None = None
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="checkpoint")

    def steps(self) -> list[int]:
        """The steps that claim to be whole, oldest first."""
        return sorted(int(path.stem) for path in self._folder.glob("*.sha256") if path.stem.isdigit())

    def save(self, state: TrainState, *, step: int) -> None:
        """Starts saving, and returns once `state` may be given away. Raises what went wrong with the save before."""
        self.wait()
        if self._stored:
            state = gather_to_first(state)
            if not is_first():
                return
        self._open()
        # Where no folder can be made, Orbax's threads would wait five minutes.
        probe = self._folder / f"{step}.{jax.process_index()}.partial"
        probe.touch()
        probe.unlink()
        with first_process_only() if self._stored else contextlib.nullcontext():
            saving = ocp.save_async(self._folder / str(step), state)
        self._saving = self._thread.submit(self._finish, saving, step)

    def wait(self) -> None:
        """Returns when the last save is whole on disk."""
        if self._saving is not None:
            saving, self._saving = self._saving, None
            try:
                saving.result()
            except ValueError as error:  # Orbax has no other for what the disk says
                told = files.disk_error(error, self._folder)
                raise OSError(told.errno, f"checkpoint not written: {told.strerror}", str(self._folder)) from error

    def last(self) -> str:
        """The newest whole one in words, for who has to stop."""
        self.wait()
        if not (steps := self.steps()):
            return "There is no checkpoint yet, so the same command starts anew"
        return f"The last good checkpoint is {self._folder / str(steps[-1])}, and the same command goes on from it"

    def close(self) -> None:
        self.wait()
        self._thread.shutdown()

    def restore(self, like: TrainState) -> tuple[TrainState, int] | None:
        """The newest whole checkpoint as (state, step), sharded as `like`; None where there is none. A damaged one
        is set aside, loudly. ValueError where all of them were.
        """
        step = broadcast_first(self._newest_whole() if is_first() else NO_STEP)
        if step == NO_STEP:
            return None
        return self._load(step, like), step

    def _newest_whole(self) -> int:
        """NONE where there is none. Clears away what crashes left."""
        self._open()
        for path in self._folder.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(path)
        for path in self._folder.glob("*.partial"):
            path.unlink()
        for path in self._folder.glob("*"):
            if path.name.isdigit() and int(path.name) not in self.steps():
                self._set_aside(int(path.name), "its sums were never written")
        for step in reversed(self.steps()):
            damage = self._damage(step)
            if damage is None:
                self._remove_old()  # a kill may have come between the last save and this
                return step
            self._set_aside(step, damage)
        if damaged := sorted(path.stem for path in self._folder.glob("*.damaged.sha256")):
            raise ValueError(
                f"no checkpoint in {self._folder} is whole any more ({', '.join(damaged)}). Put a copy of one back, its"
                " .sha256 beside it, or delete the folder, and the same command starts anew, from step 0"
            )
        return NO_STEP

    def peek(self, like: TrainState, *, before: int) -> tuple[TrainState, int] | None:
        """As `restore`, of the steps < `before`, for who only looks: everything on disk stays as it is."""
        for step in reversed([step for step in self.steps() if step < before]):
            damage = self._damage(step)
            if damage is None:
                return self._load(step, like), step
            console.print(f"[bold red]checkpoint {self._folder / str(step)} is passed over: {damage}[/]")
        return None

    def _open(self) -> None:
        """Makes the folder, once: where it vanishes later, Orbax would make another, without the earlier ones."""
        if self._opened and not self._folder.is_dir():
            raise ValueError(f"{self._folder} vanished while the run went on; the same command starts anew")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._opened = True

    def _load(self, step: int, like: TrainState) -> TrainState:
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
        return ocp.load(self._folder / str(step), shapes)

    def _finish(self, saving: Any, step: int) -> None:
        saving.result()
        if not is_first():
            return
        sums = files.folder_hashes(self._folder / str(step))
        files.write_json(self._sums(step), sums)
        self._remove_old()
        if self._stored:
            (self._stored / str(step)).upload(sums)
            for old in sorted(map(int, self._stored.list_complete()))[: -self._keep]:
                (self._stored / str(old)).remove()

    def _remove_old(self) -> None:
        for old in self.steps()[: -self._keep]:
            files.remove(self._folder / str(old))  # its sums last: what a kill leaves of it goes the next time
            self._sums(old).unlink()

    def _damage(self, step: int) -> str | None:
        """What is wrong with a step, in words."""
        try:
            wanted = untrusted.read_json(self._sums(step), dict[str, str])
            found = files.folder_hashes(self._folder / str(step))
        except OSError as error:
            return f"{error.filename} cannot be read: {error.strerror}"
        except ValueError:
            return "its sums cannot be read"
        wrong = sorted(name for name in wanted | found if wanted.get(name) != found.get(name))
        return f"{wrong[0]} is {'missing' if wrong[0] not in found else 'not what was written'}" if wrong else None

    def _set_aside(self, step: int, why: str) -> None:
        console.print(
            f"[bold red]checkpoint {self._folder / str(step)} is not whole: {why}. It is set aside as {step}.damaged[/]"
        )
        aside = self._folder / f"{step}.damaged"
        files.remove(aside)
        if self._sums(step).exists():  # it was whole once
            self._sums(step).replace(self._folder / f"{step}.damaged.sha256")
        if (self._folder / str(step)).exists():
            (self._folder / str(step)).rename(aside)

    def _sums(self, step: int) -> pathlib.Path:
        return self._folder / f"{step}.sha256"
