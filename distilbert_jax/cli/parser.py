"""The parser of the command line, assembled from the modules of the commands."""

import argparse
from types import ModuleType

import distilbert_jax
from distilbert_jax.cli.commands import (
    distill,
    evaluate,
    export,
    finetune,
    plan,
    prepare,
    replay,
    report,
    retention,
    speed,
)

COMMANDS = (distill, prepare, report, export, speed, plan, replay, finetune, evaluate, retention)

_DESCRIPTION = """Distil small encoders from large ones, in JAX.

  python -m distilbert_jax distill experiments/quickstart.py
  python -m distilbert_jax distill experiments/distilbert_base_uncased.py workdir=runs/mine steps=1000

Exit status: 0 success; 1 bad input or a problem with the disk; 2 wrong usage; 128 + n ended by signal n, such as 143
for SIGTERM. On a signal, training saves a checkpoint within one step; a second signal ends it at once. Run the same
command again to continue.

Compiled programs are kept in ~/.cache/distilbert_jax/compiled; JAX_COMPILATION_CACHE_DIR names another folder.
"""


def make_parser() -> argparse.ArgumentParser:
    """Makes the parser of all commands. Its default `commands` has the parser of each command, by name."""
    parser = argparse.ArgumentParser(
        prog="python -m distilbert_jax",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    version = f"distilbert_jax {distilbert_jax.__version__}"
    parser.add_argument("--version", action="version", version=version)
    subparsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        _add_command(subparsers, command)
    parser.set_defaults(commands=subparsers.choices)
    return parser


def _add_command(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]", command: ModuleType) -> None:
    """Adds one command: its name is the module's name and its help text the module's docstring."""
    assert command.__doc__ is not None
    text = " ".join(command.__doc__.split())
    parser = subparsers.add_parser(
        command.__name__.rpartition(".")[2], help=text.split(". ")[0].rstrip("."), description=text, allow_abbrev=False
    )
    parser.set_defaults(run=command.run)
    parser.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
    )
    command.add_arguments(parser)
