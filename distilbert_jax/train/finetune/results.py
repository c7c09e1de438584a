"""Reads the files that fine-tuning writes to the folder of a task, and checks their format number.

config.json holds what all seeds have in common: the settings, and the hashes of the models. seedN.json holds the scores
of one seed, with the settings repeated, so that it can be read on its own. seedN/per_example.json holds, for each dev
split, the numbers of every example from which the metrics are computed.
"""

import pathlib
from typing import Any, TypedDict

from distilbert_jax.io import untrusted
from distilbert_jax.io.data_format import check_format

FINETUNE_FORMAT = 3
"""Increase it whenever a key in one of these files, a key in log.jsonl, a field of TrainState or the optimizer's state
changes.
"""

CONFIG_FILE = "config.json"
PER_EXAMPLE_FILE = "per_example.json"


class StoredConfig(TypedDict):
    """The content of config.json."""

    format: int
    config: dict[str, Any]
    sha256: dict[str, str]


def read_config(folder: pathlib.Path) -> StoredConfig | None:
    """Returns the config.json of a task's folder, or None if nothing has been fine-tuned there.

    Raises:
        ValueError: the file is damaged, or another version of the package wrote the folder.
    """
    path = folder / CONFIG_FILE
    if path.is_file():
        stored: StoredConfig = read_result(path, StoredConfig)
        return stored
    # config.json is written before a seed begins, so a folder that has seeds but no config.json states no format.
    if any(folder.glob("seed*.json")) or any(folder.glob("seed*/checkpoints/*.sha256")):
        _check_format(None, folder, folder=folder)
    return None


def read_result(path: pathlib.Path, shape: Any) -> Any:
    """Returns the content of a seedN.json or config.json.

    Args:
        path: the file.
        shape: the TypedDict with the fields that the file must have.

    Raises:
        ValueError: the file is damaged, or another version of the package wrote it.
    """
    content = untrusted.read_json(path, dict[str, Any])
    _check_format(content.get("format"), path, folder=path.parent)
    untrusted.check_shape(content, shape, where=str(path))
    return content


def _check_format(stated: object, path: pathlib.Path, *, folder: pathlib.Path) -> None:
    """Raises ValueError if `stated`, the format number in `path`, is not the current one."""
    check_format(
        stated,
        FINETUNE_FORMAT,
        what=str(path),
        remedy=f"to fine-tune again, delete {folder}, or name another folder with --output-dir",
    )
