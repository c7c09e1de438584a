"""Stores the command of a run in the run's folder, so that `replay` can build the same experiment again."""

import dataclasses
import pathlib
from typing import TypedDict

from distilbert_jax.config import experiment_file
from distilbert_jax.config.experiment import Experiment
from distilbert_jax.hub.smoke import make_smoke_experiment
from distilbert_jax.io import files, untrusted

COMMAND_FILE = "command.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunCommand:
    """The arguments of `distill FILE OVERRIDES --smoke FOLDER`, as they were typed."""

    file: str  # the experiment file
    overrides: tuple[str, ...] = ()  # such as "steps=10"
    smoke: str | None = None  # the folder of --smoke, or None if the flag was not given

    def load_experiment(self) -> Experiment:
        """Returns the experiment that the command describes.

        Raises:
            ValueError: the experiment file or an override is not valid.
        """
        experiment = experiment_file.load_experiment(self.file)
        if self.smoke:
            experiment = make_smoke_experiment(experiment, pathlib.Path(self.smoke))
        return experiment_file.apply_overrides(experiment, self.overrides)

    def hash_code(self) -> dict[str, str]:
        """Returns the hashes of the experiment file and of the files next to it that it imports, by name."""
        return experiment_file.hash_code(self.file)

    def write(self, folder: pathlib.Path) -> None:
        """Writes command.json, with the current folder, to which relative paths in the command refer."""
        files.write_json(folder / COMMAND_FILE, dataclasses.asdict(self) | {"typed_in": str(pathlib.Path.cwd())})


class SavedCommand(TypedDict):
    """The content of command.json."""

    file: str
    overrides: list[str]
    smoke: str | None
    typed_in: str


def read_command(folder: pathlib.Path) -> tuple[RunCommand, pathlib.Path]:
    """Returns the command of a run, and the folder in which it was typed.

    Raises:
        ValueError: `folder` has no command.json, or the folder in which the command was typed no longer exists.
    """
    path = folder / COMMAND_FILE
    if not path.is_file():
        raise ValueError(
            f"{folder} has no {COMMAND_FILE}: it is not the folder of a run of `python -m distilbert_jax distill`. "
            "Name the folder of a run"
        )
    saved = untrusted.read_json(path, SavedCommand)
    typed_in = pathlib.Path(saved["typed_in"])
    if not typed_in.is_dir():
        raise ValueError(
            f"{path}: distill was run in {typed_in}, which no longer exists. Change typed_in in this file to the "
            "folder to which the experiment's relative paths refer"
        )
    return RunCommand(file=saved["file"], overrides=tuple(saved["overrides"]), smoke=saved["smoke"]), typed_in
