"""Fine-tune a model on one or more tasks, with one or more seeds each. Results that already exist are kept."""

import argparse
import pathlib

from distilbert_jax.cli import arguments
from distilbert_jax.fields import PositiveInt

_OVERRIDES_HELP = (
    "fields of the fine-tuning to change, such as epochs=5 optimizer.learning_rate=1e-4 losses.soft.temperature=4"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    arguments.add_model_and_task_arguments(parser)
    parser.add_argument(
        "--seeds",
        metavar="N",
        type=arguments.number_parser(PositiveInt),
        default=1,
        help="the number of seeds; each seed initialises a new head (default 1)",
    )
    parser.add_argument(
        "--teacher",
        metavar="MODEL",
        help="a model fine-tuned on the same task; half of the loss then compares the student with its softened "
        "predictions",
    )
    parser.add_argument(
        "--hidden-loss",
        action="append",
        default=[],
        choices=("cosine", "hidden_mse"),
        help="also learn from the teacher's hidden states with this loss; may be repeated",
    )
    parser.add_argument(
        "--output-dir",
        metavar="DIR",
        type=arguments.parse_local_folder,
        help="the folder for the results (default: tasks/ in the folder of the run that exported the model)",
    )
    parser.add_argument("overrides", metavar="NAME=VALUE", nargs="*", help=_OVERRIDES_HELP)
    parser.set_defaults(load_config_class=_load_config_class)


def _load_config_class() -> type:
    """Returns the class whose fields can be set. Importing it takes time, so this is done when it is needed."""
    from distilbert_jax.config.finetune import FineTuneConfig

    return FineTuneConfig


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    from distilbert_jax.config import experiment_file
    from distilbert_jax.config.experiment import Pretrained
    from distilbert_jax.config.finetune import default_finetune_config
    from distilbert_jax.io import files, folder_marker
    from distilbert_jax.report import retention_table
    from distilbert_jax.train.finetune.loop import finetune

    output_dir = pathlib.Path(args.output_dir) if args.output_dir else _locate_run(args.model) / "tasks"
    for text in args.task:
        files.check_can_write(output_dir / arguments.get_task_name(text))
    folder_marker.check_owner(output_dir, "finetune", setting="--output-dir FOLDER")
    teacher = Pretrained(args.teacher) if args.teacher else None
    tasks = arguments.load_tasks(args.task, unlabelled=args.unlabelled)
    folder_marker.write_marker(output_dir, "finetune")
    results = []
    for task, folder in tasks:
        config = default_finetune_config(
            task, task_dir=folder, model=Pretrained(args.model), teacher=teacher, extra_losses=args.hidden_loss
        )
        overrides = [*args.overrides]
        if args.window_overlap is not None:
            overrides.append(f"window_overlap={args.window_overlap}")
        results += finetune(
            experiment_file.apply_overrides(config, overrides), task, folder=output_dir / task.name, seeds=args.seeds
        )
    retention_table.show_finetuning_results(results)


def _locate_run(model: str) -> pathlib.Path:
    """Returns the run that exported a model, or else a folder with the model's name under runs/."""
    from distilbert_jax.io import remote_folder

    folder = pathlib.Path(model)
    run = folder.parent if folder.name == "export" else pathlib.Path("runs") / folder.name
    # Results are written to this machine's disk, also for a model in an object store.
    return pathlib.Path("runs") / run.name if remote_folder.is_address(model) else run
