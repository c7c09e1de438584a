"""Large memory in huge pages, where Linux gives them to whoever asks.

On a CPU a program of XLA takes the memory of its temporaries anew at every call. In pages of 4 KB the kernel hands out
some 400,000 of them an update, a quarter of its time (docs/log.md, 2026-11-26).
"""

import os
import pathlib
import sys

SETTING = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
TUNABLE = "glibc.malloc.hugetlb"


def environment() -> dict[str, str]:
    """What makes malloc of a process that starts with it ask (glibc 2.35 and later; others pass over it). Nothing where
    the kernel gives huge pages to all or to nobody, or where the environment has a say on it already.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if TUNABLE in tunables or not SETTING.is_file() or "[madvise]" not in SETTING.read_text(encoding="utf-8"):
        return {}
    return {"GLIBC_TUNABLES": f"{tunables}:{TUNABLE}=1".removeprefix(":")}


def start_again() -> None:
    """This command, in the same process, with that environment: malloc reads it at the start alone."""
    if added := environment():
        os.environ.update(added)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606
