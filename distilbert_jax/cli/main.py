"""Runs one command and turns errors into an exit status and one line of text."""

import errno
import sys
from collections.abc import Sequence

from distilbert_jax.cli import quiet
from distilbert_jax.cli.parser import make_parser
from distilbert_jax.config.renamed import find_new_flag
from distilbert_jax.io import compilation_cache

MAX_ERROR_CHARACTERS = 2_000  # of an error message that is printed


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: the words after the program's name; those of the process if left out.

    Returns:
        The exit status: 0 for success, 1 for bad input or a problem with the disk, and 128 + n if signal n ended the
        command.

    Raises:
        SystemExit: for wrong usage, with status 2, and after `--help`, with status 0.
    """
    parser = make_parser()
    # argparse does not accept NAME=VALUE after an option, so such words are collected here.
    args, rest = parser.parse_known_args(arguments)
    for word in rest:
        if new_flag := find_new_flag(word):
            parser.error(f"{word.partition('=')[0]} was renamed to {new_flag}")
    if rest and (not hasattr(args, "overrides") or any(text.startswith("-") for text in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    elif rest:
        args.overrides += rest
    # This has to come before the command imports jax.
    compilation_cache.enable_compilation_cache()
    if not args.debug:
        quiet.quiet_orbax()
    try:
        args.run(args)
    except (ValueError, OSError) as error:
        if args.debug:
            raise
        print(f"error: {format_error(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "interrupted", file=sys.stderr)
        return getattr(interrupt, "status", 130)
    return 0


def format_error(error: Exception) -> str:
    """Formats an error as one short message, so that text quoted from a file cannot fill the screen."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        where = f" for {error.filename}" if error.filename else ""
        return f"no space left on the disk{where}; free some space, then run the same command again to continue"
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return f"{error.filename} is on a read-only disk; make it writable or choose another folder"
    text = str(error)
    if len(text) <= MAX_ERROR_CHARACTERS:
        return text
    # The end often says how to fix the error, so it is kept as well as the start.
    return f"{text[: MAX_ERROR_CHARACTERS // 2]} … {text[-MAX_ERROR_CHARACTERS // 4 :]}"
