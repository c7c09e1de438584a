"""Train a student, export it and report. The same command goes on where an earlier one ended."""

import argparse

from distilbert_jax.cli import arguments, quiet


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
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument(
        "--smoke",
        metavar="FOLDER",
        type=arguments.parse_local_folder,
        help="run four steps on a tiny random model, all in FOLDER: shows in a minute that the experiment runs",
    )
    modes.add_argument(
        "--process",
        metavar="I/N@HOST:PORT",
        help="this is process I of N, of which process 0 listens at HOST:PORT; auto, where JAX finds the others by "
        "itself: Slurm, Cloud TPU, Kubernetes, Open MPI. All see the same folders, on disk or in a store",
    )


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    from distilbert_jax.devices import processes
    from distilbert_jax.report import run_report
    from distilbert_jax.runtime.command_record import Command
    from distilbert_jax.train.distill import loop

    if not args.debug:
        quiet.quiet_orbax()
    if args.process:
        processes.join(args.process)
    command = Command(file=args.file, overrides=tuple(args.overrides), smoke=args.smoke)
    folder = loop.distill(command.experiment(), command=command, profile=args.profile)
    if processes.is_first():
        run_report.show(folder)


def _parse_steps(text: str) -> range:
    first, _, last = text.partition(":")
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise argparse.ArgumentTypeError(f"{text!r} is not FIRST:LAST, such as 20:25")
    return range(int(first), int(last) + 1)
