"""The command line: a few lines each, so that `--help` answers before jax is imported."""

import argparse
import errno
import pathlib
import sys
from collections.abc import Callable, Sequence

_DESCRIPTION = """Distil small encoders from large ones, in JAX.

  python -m distilbert_jax distill experiments/quickstart.py
  python -m distilbert_jax distill experiments/distilbert_base_uncased.py workdir=runs/mine steps=1000
"""
_OVERRIDES = "fields of the experiment to change: steps=1000 losses.soft.temperature=4 teacher=FOLDER_OR_ID workdir=DIR"


def _distill(args: argparse.Namespace) -> None:
    from distilbert_jax import experiment_file
    from distilbert_jax.hub.smoke import smoke
    from distilbert_jax.train import loop

    if not args.debug:
        _quiet_orbax()
    experiment = experiment_file.load(args.file)
    if args.smoke:
        experiment = smoke(experiment, pathlib.Path(args.smoke))
    _show(loop.distill(experiment_file.override(experiment, args.overrides)))


def _prepare(args: argparse.Namespace) -> None:
    from distilbert_jax import experiment_file
    from distilbert_jax.data.prepare import prepare
    from distilbert_jax.hub import read

    experiment = experiment_file.override(experiment_file.load(args.file), args.overrides)
    prepare(experiment.corpus, read.tokenizer(experiment.start))


def _report(args: argparse.Namespace) -> None:
    _show(pathlib.Path(args.run))


def _show(folder: pathlib.Path) -> None:
    from distilbert_jax.evaluate import report

    report.show(folder)


def _quiet_orbax() -> None:
    """It logs a traceback of what it then raises; to say it once, in words, is enough."""
    from absl import logging

    logging.set_verbosity(logging.FATAL)


def parser() -> argparse.ArgumentParser:
    """The commands and their help."""
    top = argparse.ArgumentParser(
        prog="python -m distilbert_jax", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text.split(".")[0].lower(), description=text)
        sub.set_defaults(command=run)
        sub.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
        )
        return sub

    distill = command(
        "distill",
        _distill,
        "Train a student, export it and report. The same command goes on where an earlier one ended.",
    )
    prepare = command(
        "prepare",
        _prepare,
        "Make the shards of an experiment's corpus. distill does it by itself where they are missing.",
    )
    for sub in (distill, prepare):
        sub.add_argument(
            "file",
            metavar="EXPERIMENT.py",
            help="an experiment file, such as experiments/quickstart.py; it is code, so run only those you trust",
        )
        sub.add_argument("overrides", metavar="NAME=VALUE", nargs="*", help=_OVERRIDES)
    distill.add_argument(
        "--smoke",
        metavar="FOLDER",
        help="run four steps on a tiny random model, all in FOLDER: shows in a minute that the experiment runs",
    )
    report = command(
        "report", _report, "Teacher beside student in one table, their words for a gap, and a picture of the losses."
    )
    report.add_argument("run", metavar="RUN", help="the folder of a finished run, such as runs/quickstart")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status: 0, 1 for bad input, 2 for wrong usage, 128 + n where signal n
    ended a run that saved itself.
    """
    top = parser()
    args, rest = top.parse_known_args(arguments)  # argparse takes no NAME=VALUE after an option by itself
    if rest and (not hasattr(args, "overrides") or any(text.startswith("-") for text in rest)):
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    elif rest:
        args.overrides += rest
    try:
        args.command(args)
    except (ValueError, OSError) as error:
        if args.debug:
            raise
        print(f"error: {_in_words(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stopped:
        print(str(stopped) or "ended at once", file=sys.stderr)
        return getattr(stopped, "status", 130)
    return 0


def _in_words(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        where = f" for {error.filename}" if error.filename else ""
        return f"no space left on the disk{where}; make room, and the same command goes on from what is there"
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
