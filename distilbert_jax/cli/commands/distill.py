"""Train a student, export it and show a report. Run the same command again to continue a run that was interrupted."""

import argparse

from distilbert_jax.cli import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    arguments.add_experiment_arguments(parser)
    parser.add_argument(
        "--profile",
        metavar="FIRST:LAST",
        type=_parse_steps,
        default=range(0),
        help="write a device trace of these steps, such as 20:25, to profile/ in the run's folder",
    )
    arguments.add_changed_code_argument(parser)
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument(
        "--smoke",
        metavar="FOLDER",
        type=arguments.parse_local_folder,
        help="run four steps with a tiny random model and write everything to FOLDER, to check in a minute that the "
        "experiment works",
    )
    modes.add_argument(
        "--distributed",
        metavar="I/N@HOST:PORT",
        help="run as process I of N (counted from 0), where process 0 listens at HOST:PORT; or auto on Slurm, Cloud "
        "TPU, Kubernetes and Open MPI, where JAX finds the other processes by itself. All processes need the same "
        "folders, on a shared disk or in an object store",
    )


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    from distilbert_jax.devices import processes
    from distilbert_jax.report import run_report
    from distilbert_jax.runtime.command_record import RunCommand
    from distilbert_jax.train.distill import loop

    if args.distributed:
        processes.init_distributed(args.distributed)
    command = RunCommand(file=args.file, overrides=tuple(args.overrides), smoke=args.smoke)
    folder = loop.distill(
        command.load_experiment(), command=command, profile=args.profile, may_change_code=args.changed_code
    )
    if processes.is_first():
        run_report.show_report(folder)


def _parse_steps(text: str) -> range:
    """Parses FIRST:LAST into the range of these steps, including the last one."""
    first, _, last = text.partition(":")
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise argparse.ArgumentTypeError(f"{text!r} is not FIRST:LAST, such as 20:25")
    return range(int(first), int(last) + 1)
