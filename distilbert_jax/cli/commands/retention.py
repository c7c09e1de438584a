"""Compute how much of the teacher's scores each student retains, as a table in Markdown, LaTeX and JSON and as a
picture.
"""

import argparse
import pathlib

from distilbert_jax.cli import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "results",
        metavar="NAME=FOLDER",
        nargs="+",
        help="a name for each model and the folder that finetune wrote for it; the teacher comes first",
    )
    parser.add_argument(
        "--task",
        metavar="NAME",
        action=arguments.AppendTask,
        help="use only this task; may be repeated (default: all tasks; every model needs results for the same ones)",
    )
    parser.add_argument(
        "--output-dir",
        metavar="DIR",
        type=arguments.parse_local_folder,
        default="retention",
        help="the folder for the table and the picture (default retention/)",
    )


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    from distilbert_jax.report import retention_table

    folders: dict[str, pathlib.Path] = {}
    for text in args.results:
        name, equals, folder = text.partition("=")
        if not equals or name in folders:
            raise ValueError(f"{text}: write NAME=FOLDER, each name once, such as teacher=runs/teacher/tasks")
        folders[name] = pathlib.Path(folder)
    if len(folders) < 2:
        raise ValueError("only one model is given: give the teacher and at least one student, the teacher first")
    retention_table.write_retention(folders, pathlib.Path(args.output_dir), tasks=args.task)
