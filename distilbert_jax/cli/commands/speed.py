"""Measure where the time of one training step goes: teacher, student, losses, backward pass and optimizer, each with
its share of the peak arithmetic of this machine's devices. Nothing is trained. The corpus is prepared if it is missing.
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
        help="measure a tiny random model and write everything to FOLDER, to check that the command works",
    )


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    from distilbert_jax.performance.step_timing import time_step_parts
    from distilbert_jax.runtime.command_record import RunCommand

    time_step_parts(RunCommand(file=args.file, overrides=tuple(args.overrides), smoke=args.smoke).load_experiment())
