"""The memory of this process. The module does not import JAX, so that a program without JAX can be measured too."""

import pathlib
import re
import resource
import sys

STATUS_FILE = pathlib.Path("/proc/self/status")


def peak_bytes() -> int:
    """Returns the largest amount of memory that this process has held so far, in bytes.

    On Linux it is read from /proc/self/status. Elsewhere, or where that file does not say it, it is the system's
    figure, which on Linux also counts the memory of the process that started this one.
    """
    if STATUS_FILE.is_file() and (
        match := re.search(r"^VmHWM:\s*(\d+) kB$", STATUS_FILE.read_text(encoding="utf-8"), re.M)
    ):
        return 1_024 * int(match[1])
    # The unit of ru_maxrss is bytes on macOS and KiB on Linux.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1_024)
