"""Repeat one step of a run to find out where NaN or infinity came from. Training is repeated from the last checkpoint
before the step; then the loss and the layer that became non-finite first are named. Nothing in the run's folder is
changed.
"""

import argparse

from distilbert_jax.cli import arguments
from distilbert_jax.fields import PositiveInt


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("folder", metavar="RUN", help="the folder of a run of distill, such as runs/quickstart")
    parser.add_argument(
        "step",
        metavar="STEP",
        type=arguments.number_parser(PositiveInt),
        help="the number of the step as in the log, counted from 1",
    )
    arguments.add_changed_code_argument(parser)


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    from distilbert_jax.train.replay.replay import replay

    replay(arguments.fetch_run(args.folder), step=args.step, may_change_code=args.changed_code)
