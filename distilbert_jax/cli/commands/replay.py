"""Take a step of a run apart, as where it became NaN. Goes from the last checkpoint before the step to it and names the
loss and the layer that turned first; nothing in the run's folder is changed.
"""

import argparse

from distilbert_jax.cli import arguments, quiet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("folder", metavar="RUN", help="the folder of a run that distill left, such as runs/quickstart")
    parser.add_argument("step", metavar="STEP", type=int, help="as the log counts them, from 1")


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    from distilbert_jax.train.replay.replay import replay

    if not args.debug:
        quiet.quiet_orbax()
    replay(arguments.fetch_run(args.folder), step=args.step)
