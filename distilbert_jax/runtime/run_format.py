"""Writes and checks the format number of a run folder, which covers its log, its results and its checkpoints."""

import pathlib
from typing import TypedDict

from distilbert_jax.io import files, untrusted
from distilbert_jax.io.data_format import check_format

RUN_FORMAT = 3
"""Increase it whenever a key in log.jsonl or results.json, a field of TrainState or the optimizer's state changes."""

FORMAT_FILE = "format.json"


class StatedFormat(TypedDict):
    """The content of format.json."""

    format: int


def write_run_format(folder: pathlib.Path) -> None:
    """Writes format.json. Call it before anything else of a run is written to its folder."""
    files.write_json(folder / FORMAT_FILE, StatedFormat(format=RUN_FORMAT))


def check_run_format(folder: pathlib.Path) -> None:
    """Checks that this version of the package can read the run in `folder`.

    Raises:
        ValueError: another version of the package wrote the run. The message says how to make it again.
    """
    path = folder / FORMAT_FILE
    stated = untrusted.read_json(path, StatedFormat)["format"] if path.is_file() else None
    check_format(
        stated,
        RUN_FORMAT,
        what=str(folder),
        remedy="to make the run again, run the same command with another workdir, or delete the folder first",
    )
