"""The command line."""

import errno
import sys
from collections.abc import Sequence

from distilbert_jax import compiled
from distilbert_jax.arguments import parser

LONGEST = 2_000  # characters of an error


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
    compiled.keep()
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
    """What is printed of an error: a file of others that is quoted in it cannot fill the screen."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        where = f" for {error.filename}" if error.filename else ""
        return f"no space left on the disk{where}; make room, and the same command goes on from what is there"
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return f"{error.filename} is on a disk that is read-only; make it writable, or take another folder"
    text = str(error)
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} … {text[-LONGEST // 4 :]}"


if __name__ == "__main__":
    sys.exit(main())
