"""Arguments that several commands share: experiment files, folders, tasks and run folders."""

import argparse
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from distilbert_jax import fields
from distilbert_jax.fields import NonNegativeInt
from distilbert_jax.io.addresses import parse_address

if TYPE_CHECKING:
    from distilbert_jax.data.tasks.registry import Task

_FILE_HELP = (
    "an experiment file, such as experiments/quickstart.py; the file is Python code that will be executed, so run only "
    "files you trust"
)
_OVERRIDES_HELP = (
    "fields of the experiment to change, such as steps=1000 losses.soft.temperature=4 teacher=FOLDER_OR_ID "
    "workdir=FOLDER; folders may be gs:// or s3:// addresses"
)
_TASK_HELP = (
    "a task and the folder with its files as they were released; without =FOLDER the task is read from TensorFlow "
    "Datasets. Tasks: cola sst2 mrpc qqp stsb mnli qnli rte wnli ax imdb squad squad2 conll2003 wnut17 swag codah "
    "piqa. Any other name is a task of your own: the folder has train.csv and dev.csv (or .tsv or .jsonl) with a "
    "column text, an optional column text_pair, and one of label, score, labels or probabilities. May be repeated"
)
_UNLABELLED_HELP = (
    "for tasks of your own: the label or score that means that there is none, such as -1; an empty one always does. "
    "--unlabelled '' says that -1 is a label like the others"
)


def add_experiment_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the experiment file and the fields to change in it."""
    parser.add_argument("file", metavar="EXPERIMENT.py", help=_FILE_HELP)
    parser.add_argument("overrides", metavar="NAME=VALUE", nargs="*", help=_OVERRIDES_HELP)
    parser.set_defaults(load_config_class=_load_experiment_class)


def _load_experiment_class() -> type:
    """Returns the class whose fields an experiment file sets. Importing it takes time, so this is done when needed."""
    from distilbert_jax.config.experiment import Experiment

    return Experiment


def add_changed_code_argument(parser: argparse.ArgumentParser) -> None:
    """Adds the flag that accepts a change of the experiment's code."""
    parser.add_argument(
        "--changed-code",
        action="store_true",
        help="accept that the experiment file, or a file next to it that it imports, has changed since the run began",
    )


def add_model_and_task_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds a pretrained model and the tasks to use it on."""
    parser.add_argument("model", metavar="MODEL", help="a model folder or a Hub id, such as runs/quickstart/export")
    parser.add_argument("--task", metavar="NAME[=FOLDER]", action=AppendTask, required=True, help=_TASK_HELP)
    parser.add_argument("--unlabelled", metavar="LABEL", help=_UNLABELLED_HELP)
    parser.add_argument(
        "--window-overlap",
        metavar="N",
        type=number_parser(NonNegativeInt),
        help="read long texts in windows that overlap by N tokens (default: truncate long texts)",
    )


class AppendTask(argparse.Action):
    """Appends NAME or NAME=FOLDER to a list, and refuses a name that is in it already."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Appends the value of one `--task`."""
        given = getattr(namespace, self.dest) or []
        if get_task_name(values) in map(get_task_name, given):
            raise argparse.ArgumentError(
                self, f"the task {get_task_name(values)} is given twice; name each task only once"
            )
        setattr(namespace, self.dest, [*given, values])


def get_task_name(text: str) -> str:
    """Returns the name of the task in the text NAME or NAME=FOLDER."""
    return text.partition("=")[0]


def number_parser(kind: Any) -> Callable[[str], Any]:
    """Returns the function by which argparse parses a number.

    Args:
        kind: the type and the range of the number, as a config would annotate a field.
    """

    def parse(text: str) -> Any:
        try:
            value = fields.unwrap(kind)(text)
        except ValueError:
            value = text
        if fields.find_mismatch(value, kind):
            raise argparse.ArgumentTypeError(f"must be {fields.describe_type(kind)}, not {text!r}")
        return value

    return parse


def parse_local_folder(text: str) -> str:
    """Returns the path of a folder after checking that it is on this machine's disk, not in an object store."""
    from distilbert_jax.io import files, remote_folder

    if remote_folder.is_address(text):
        raise argparse.ArgumentTypeError(
            f"{text} is an address in an object store; this folder has to be on this machine's disk"
        )
    try:
        return str(files.expand_path(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parse_ray_address(text: str) -> str:
    """Checks the value of `--ray-address`: HOST:PORT, or auto."""
    if text != "auto":
        _check_address(text)
    return text


def parse_distributed(text: str) -> str:
    """Checks the address in the value of `--distributed`: I/N@HOST:PORT, or auto."""
    if "@" in text:
        _check_address(text.partition("@")[2])
    return text


def _check_address(text: str) -> None:
    """Checks that a text is HOST:PORT. argparse prints only the message of its own kind of error."""
    try:
        parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def load_tasks(texts: Sequence[str], *, unlabelled: str | None = None) -> list[tuple["Task", str]]:
    """Loads the tasks that `--task` names.

    Args:
        texts: NAME=FOLDER for files on disk, or NAME alone for TensorFlow Datasets.
        unlabelled: for tasks of the user's own: the label that means that there is none.

    Returns:
        (task, folder) for each; "TFDS" instead of the folder for TensorFlow Datasets.

    Raises:
        ValueError: a task is not found or its files are wrong, or `unlabelled` is given and no task is the user's own.
    """
    from distilbert_jax.data.tasks import registry

    published = {text for text in texts if get_task_name(text) in registry.TASK_NAMES}
    if unlabelled is not None and len(published) == len(texts):
        raise ValueError(f"--unlabelled is for tasks of your own, not for {', '.join(texts)}; leave it out")
    tasks = []
    for text in texts:
        name, equals, folder = text.partition("=")
        own_value = None if text in published else unlabelled
        task = (
            registry.find_task(name, pathlib.Path(folder), unlabelled=own_value)
            if equals
            else registry.find_tfds_task(name)
        )
        tasks.append((task, folder or "TFDS"))
    return tasks


def fetch_run(run: str) -> pathlib.Path:
    """Returns the folder of a run. A run in an object store is first copied to this machine."""
    from distilbert_jax.io import remote_folder

    if remote := remote_folder.open_remote_folder(run):
        from distilbert_jax.runtime.remote_run import download_run

        download_run(remote, all_checkpoints=True)
    return remote_folder.local_path(run)
