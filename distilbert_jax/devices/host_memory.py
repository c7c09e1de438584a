"""The memory of this process. It needs no JAX: what is compared with us has none."""

import pathlib
import re
import resource
import sys

STATUS = pathlib.Path("/proc/self/status")


def most() -> int:
    """Bytes: the most that it has held. Where Linux does not say, it is the system's figure, which on Linux begins with
    the most that whoever started the process had held.
    """
    if STATUS.is_file() and (said := re.search(r"^VmHWM:\s*(\d+) kB$", STATUS.read_text(encoding="utf-8"), re.M)):
        return 1_024 * int(said[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1_024)
