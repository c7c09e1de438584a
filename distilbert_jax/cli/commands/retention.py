"""What students keep of their teacher's scores. A table as Markdown, LaTeX and JSON, and a picture."""

import argparse
import pathlib

from distilbert_jax.cli import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "results", metavar="NAME=FOLDER", nargs="+", help="what finetune wrote for each model, the teacher's first"
    )
    parser.add_argument(
        "--task",
        metavar="NAME",
        action="append",
        help="only this task; may be repeated (default: all, the same of each)",
    )
    parser.add_argument(
        "--into",
        metavar="DIR",
        type=arguments.parse_local_folder,
        default="retention",
        help="where the table goes (retention/)",
    )


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    from distilbert_jax.report import retention_table

    named = {}
    for text in args.results:
        name, equals, folder = text.partition("=")
        if not equals or name in named:
            raise ValueError(f"{text}: write NAME=FOLDER, each name once, such as teacher=runs/teacher/tasks")
        named[name] = pathlib.Path(folder)
    if len(named) < 2:
        raise ValueError("a teacher and at least one student are needed, the teacher first")
    retention_table.write(named, pathlib.Path(args.into), tasks=args.task)
