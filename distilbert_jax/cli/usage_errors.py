"""Explains commands and flags that do not exist: which one was probably meant, or how to write a field instead."""

import argparse
import re
from collections.abc import Sequence

from distilbert_jax.config.renamed import find_new_flag
from distilbert_jax.config.suggestions import find_similar, format_suggestion


def check_names(words: Sequence[str], parser: argparse.ArgumentParser) -> None:
    """Ends the program with status 2 if the command or a flag on the command line does not exist.

    argparse finds this, too, but it would first complain about required arguments, and it suggests nothing.

    Args:
        words: the words after the program's name.
        parser: the parser of all commands.
    """
    commands = parser.get_default("commands")
    command = next((word for word in words if not word.startswith("-")), None)
    if command is None:
        return
    if command not in commands:
        hint = format_suggestion(command, commands)
        parser.error(f"there is no command {command!r}{hint}; choose one of {', '.join(commands)}")
    following = words[words.index(command) + 1 :]
    for index, word in enumerate(following):
        flag, equals, value = word.partition("=")
        if not re.fullmatch("--?[A-Za-z][A-Za-z_-]*", flag) or flag in ("-h", "--help"):
            continue
        flags = list(dict.fromkeys(re.findall("--[a-z][a-z-]*", commands[command].format_usage())))
        if flag not in flags:
            next_word = "".join(following[index + 1 : index + 2])
            commands[command].error(
                _explain_unknown_flag(flag, flags, value if equals else next_word or "VALUE", commands[command])
            )


def _explain_unknown_flag(flag: str, flags: Sequence[str], value: str, parser: argparse.ArgumentParser) -> str:
    """Returns what to write in place of a flag that does not exist.

    Args:
        flag: the flag as it was typed, such as "--steps".
        flags: the flags of the command.
        value: what follows the flag.
        parser: the parser of the command.
    """
    if new_flag := find_new_flag(flag):
        return f"{flag} was renamed to {new_flag}"
    name = flag.lstrip("-").replace("-", "_")
    paths = _find_field_paths(name, parser)
    similar = find_similar(flag, flags)
    # A field of exactly this name is more likely than a flag of a similar one.
    if paths and (not similar or paths[0].rpartition(".")[2] == name):
        return f"there is no flag {flag}; fields are set without dashes: write {paths[0]}={value}"
    hint = f" (did you mean {similar}?)" if similar else ""
    return f"there is no flag {flag}{hint}; the flags of this command are {', '.join(flags)}"


def _find_field_paths(name: str, parser: argparse.ArgumentParser) -> list[str]:
    """Returns the paths of the fields that a name may mean, if the command has fields that can be set."""
    load_config_class = parser.get_default("load_config_class")
    if load_config_class is None:
        return []
    from distilbert_jax.config.experiment_file import find_field_paths

    return find_field_paths(name, load_config_class())
