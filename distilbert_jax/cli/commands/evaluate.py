"""Evaluate a fine-tuned model on a task and write its predictions to a file."""

import argparse
import pathlib

from distilbert_jax.cli import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    arguments.add_model_and_task_arguments(parser)
    parser.add_argument("--split", default="dev", help="the split of the task to evaluate on (default dev)")
    parser.add_argument(
        "--no-answer-threshold",
        metavar="X",
        type=arguments.number_parser(float),
        help='squad2: predict "no answer" where its logit exceeds that of the best span by more than X '
        "(default 0; the best value for this split is printed)",
    )
    parser.add_argument(
        "--output-dir",
        metavar="DIR",
        type=arguments.parse_local_folder,
        default="predictions",
        help="the folder for the predictions (default predictions/)",
    )


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    from distilbert_jax.config.experiment import Pretrained
    from distilbert_jax.evaluate.task import evaluate

    for task, _ in arguments.load_tasks(args.task, unlabelled=args.unlabelled):
        evaluate(
            Pretrained(args.model),
            task,
            split=args.split,
            output_dir=pathlib.Path(args.output_dir),
            window_overlap=args.window_overlap,
            no_answer_threshold=args.no_answer_threshold,
        )
