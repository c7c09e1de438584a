"""Where the time of an experiment's update goes: teacher, student, losses, backward pass and optimizer, each beside the
peak of the devices at hand. Trains nothing, and prepares the corpus where it is missing.
"""

import argparse

from distilbert_jax.cli import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    arguments.add_experiment_arguments(parser)
    parser.add_argument(
        "--smoke",
        metavar="FOLDER",
        type=arguments.parse_local_folder,
        help="of a tiny random model, all in FOLDER: shows that it runs",
    )


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    from distilbert_jax.performance.step_timing import breakdown
    from distilbert_jax.runtime.command_record import Command

    breakdown(Command(file=args.file, overrides=tuple(args.overrides), smoke=args.smoke).experiment())
