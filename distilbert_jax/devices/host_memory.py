"""The memory of this process. It needs no JAX: what is compared with us has none."""

import pathlib
import re
import resource
import sys

STATUS_FILE = pathlib.Path("/proc/self/status")


def peak_bytes() -> int:
    """Bytes: the most that it has held. Where Linux does not say, it is the system's figure, which on Linux begins with
    the most that whoever started the process had held.
    """
    if STATUS_FILE.is_file() and (
        said := re.search(r"^VmHWM:\s*(\d+) kB$", STATUS_FILE.read_text(encoding="utf-8"), re.M)
    ):
        return 1_024 * int(said[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1_024)
