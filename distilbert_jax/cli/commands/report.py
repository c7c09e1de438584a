"""Compare teacher and student of a finished run: a table of scores, their predictions for a masked sentence, and a
picture of the losses.
"""

import argparse

from distilbert_jax.cli import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("folder", metavar="RUN", help="the folder of a finished run, such as runs/quickstart")


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    from distilbert_jax.report import run_report

    run_report.show_report(arguments.fetch_run(args.folder))
