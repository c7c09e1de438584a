"""The command that gave an experiment, kept in the run's folder: what it takes to build the experiment again."""

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
    """`distill FILE OVERRIDES --smoke FOLDER`, as it was typed."""

    file: str
    overrides: tuple[str, ...] = ()
    smoke: str | None = None  # the folder, where it was asked for

    def load_experiment(self) -> Experiment:
        """ValueError for a file or an override that is none."""
        experiment = experiment_file.load_experiment(self.file)
        if self.smoke:
            experiment = make_smoke_experiment(experiment, pathlib.Path(self.smoke))
        return experiment_file.apply_overrides(experiment, self.overrides)

    def write(self, folder: pathlib.Path) -> None:
        """With the folder it was typed in, which relative paths begin at."""
        files.write_json(folder / COMMAND_FILE, dataclasses.asdict(self) | {"typed_in": str(pathlib.Path.cwd())})


class SavedCommand(TypedDict):
    """What stands in command.json."""

    file: str
    overrides: list[str]
    smoke: str | None
    typed_in: str


def read_command(folder: pathlib.Path) -> tuple[RunCommand, pathlib.Path]:
    """(the command of a run, the folder it was typed in). ValueError where the folder has none."""
    path = folder / COMMAND_FILE
    if not path.is_file():
        raise ValueError(
            f"{folder} has no {COMMAND_FILE}: it is not the folder of a run that `python -m distilbert_jax distill` left"
        )
    kept = untrusted.read_json(path, SavedCommand)
    typed_in = pathlib.Path(kept["typed_in"])
    if not typed_in.is_dir():
        raise ValueError(f"{path}: distill was run in {typed_in}, which is not there any more")
    return RunCommand(file=kept["file"], overrides=tuple(kept["overrides"]), smoke=kept["smoke"]), typed_in
