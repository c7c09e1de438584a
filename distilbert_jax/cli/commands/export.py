"""Write the student of a checkpoint as a model folder in the Hub's layout. The run may have finished, may have been
killed, or may still be going on in another shell.
"""

import argparse
import pathlib

from distilbert_jax.cli import arguments
from distilbert_jax.fields import PositiveInt


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("folder", metavar="RUN", help="the folder of a run of distill, such as runs/quickstart")
    parser.add_argument(
        "--step",
        metavar="N",
        type=arguments.number_parser(PositiveInt),
        help="the step of the checkpoint (default: the newest checkpoint)",
    )
    parser.add_argument(
        "--output-dir",
        metavar="FOLDER",
        type=arguments.parse_local_folder,
        help="the folder to write (default: export-STEP in the run's folder)",
    )


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    from distilbert_jax.train.distill.export import export_checkpoint

    output_dir = pathlib.Path(args.output_dir) if args.output_dir else None
    export_checkpoint(arguments.fetch_run(args.folder), step=args.step, output_dir=output_dir)
