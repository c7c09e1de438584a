"""Score a fine-tuned model on a task. Its answers are written to a file."""

import argparse
import pathlib

from distilbert_jax.cli import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    arguments.add_model_and_task_arguments(parser)
    parser.add_argument("--split", default="dev", help="of the task's files (default dev)")
    parser.add_argument(
        "--threshold",
        metavar="X",
        type=float,
        help="squad2: how much higher than a span no answer has to score to be given (default 0; the best is printed)",
    )
    parser.add_argument(
        "--into",
        metavar="DIR",
        type=arguments.parse_local_folder,
        default="predictions",
        help="where the answers go (predictions/)",
    )


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    from distilbert_jax.config.experiment import Pretrained
    from distilbert_jax.evaluate.task import evaluate

    for task, _ in arguments.load_tasks(args.task):
        evaluate(
            Pretrained(args.model),
            task,
            split=args.split,
            into=pathlib.Path(args.into),
            windows=args.windows,
            threshold=args.threshold,
        )
