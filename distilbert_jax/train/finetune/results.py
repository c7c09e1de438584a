"""Reads the files that fine-tuning writes to the folder of a task, and checks their format number.

config.json holds what all seeds are made from: the settings, and the hashes of the models and the examples. seedN.json
holds the scores of one seed, and repeats what it was made from, so that it can be read on its own. The file
seedN/per_example.json holds, for each split that gives the score, the numbers of every example from which the metrics
are computed.
"""

import pathlib
from collections.abc import Mapping
from typing import Any, TypedDict

from distilbert_jax.config.experiment_file import differences
from distilbert_jax.config.finetune import RESUMABLE_FIELDS
from distilbert_jax.data.tasks.split_hashes import SplitHashes, list_differences
from distilbert_jax.io import untrusted
from distilbert_jax.io.folder_marker import check_format
from distilbert_jax.messages import format_differences

FINETUNE_FORMAT = 3
"""Increase it whenever a key in one of these files, a key in log.jsonl, a field of TrainState or the optimizer's state
changes.
"""

CONFIG_FILE = "config.json"
PER_EXAMPLE_FILE = "per_example.json"


class ResultOrigin(TypedDict):
    """What a result is made from: the content of config.json, and a part of every seedN.json."""

    format: int
    config: dict[str, Any]
    sha256: dict[str, str]
    examples: dict[str, SplitHashes]


def check_same_config(path: pathlib.Path, stored: ResultOrigin, config: Mapping[str, Any]) -> None:
    """Raises ValueError if the results in a file or folder were made with other settings."""
    _refuse_differences(path, differences(stored["config"], config, except_in=RESUMABLE_FIELDS))


def check_same_origin(path: pathlib.Path, stored: ResultOrigin, origin: ResultOrigin) -> None:
    """Raises ValueError if the results in a file or folder were made from other settings, models or examples."""
    check_same_config(path, stored, origin["config"])
    other_models = differences(stored["sha256"], origin["sha256"])
    _refuse_differences(path, {f"sha256.{name}": pair for name, pair in other_models.items()})
    if lines := list_differences(stored["examples"], origin["examples"]):
        listed = "".join(f"\n  {line}" for line in lines)
        raise ValueError(
            f"{path} holds results of other examples, because the files of the task have changed since; name another "
            f"folder with --output-dir, or restore the files:{listed}"
        )


def _refuse_differences(path: pathlib.Path, different: Mapping[str, tuple[Any, Any]]) -> None:
    """Raises ValueError if there are differences, which are listed."""
    if different:
        raise ValueError(
            f"{path} holds results of another config; name another folder with --output-dir:\n"
            f"{format_differences(different, one='in this folder', other='now')}"
        )


def read_config(folder: pathlib.Path) -> ResultOrigin | None:
    """Returns the config.json of a task's folder, or None if nothing has been fine-tuned there.

    Raises:
        ValueError: the file is damaged, or another version of the package wrote the folder.
    """
    path = folder / CONFIG_FILE
    if path.is_file():
        stored: ResultOrigin = read_result(path, ResultOrigin)
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
