"""Who is there: before JAX connects the processes of a run, each says its number to process 0.

JAX aborts a process whose others do not come, with a stack trace, and does not say who it waited for. The call is made
on the port that JAX listens on right after it.
"""

import contextlib
import re
import socket
import time

from distilbert_jax.devices import socket_lines

GO = "go"
ANSWER_TIMEOUT_SECONDS = (
    10.0  # seconds that process 0 may take to answer beyond the others' patience, and others to say who they are
)
RETRY_SECONDS = 0.2  # seconds between two tries to reach process 0


def rendezvous(address: str, process: int, process_count: int, *, timeout_seconds: float) -> None:
    """Returns once all `of` processes have come to process 0, which listens at HOST:PORT. ValueError, on each that came
    and with those that did not, after `patience` seconds; where two say the same number, or count differently.
    """
    host, _, port = address.rpartition(":")
    until = time.monotonic() + timeout_seconds
    if process == 0:
        _hear(int(port), process_count, until, timeout_seconds)
    else:
        _say(host, int(port), process, process_count, until, timeout_seconds)


def _hear(port: int, of: int, until: float, patience: float) -> None:
    here: dict[int, socket.socket] = {}
    try:
        told = GO
        with socket.create_server(("", port), backlog=of) as listening:
            while len(here) < of - 1 and told == GO:
                told = _next(listening, here, of, until)
        if told != GO:
            missing = sorted(set(range(1, of)) - here.keys())
            told = told or (
                f"the run has {of} processes, and {_named(missing)} did not come in {patience:.0f} s. Start every "
                "process with the same N and HOST:PORT, and a HOST that all can reach"
            )
        for line in here.values():
            _tell(line, told)
    finally:
        for line in here.values():
            line.close()
    if told != GO:
        raise ValueError(told)


def _next(listening: socket.socket, here: dict[int, socket.socket], of: int, until: float) -> str:
    """GO for one more that is `here`, "" where none comes in time, or what is wrong with who came."""
    listening.settimeout(max(0.01, until - time.monotonic()))
    try:
        line = listening.accept()[0]
    except TimeoutError:
        return ""
    said = re.fullmatch(r"(\d{1,9})/(\d{1,9})", _line(line, ANSWER_TIMEOUT_SECONDS))
    if not said:  # somebody else's
        line.close()
        return GO
    number, count = int(said[1]), int(said[2])
    wrong = ""
    if count != of:
        wrong = f"process {number} was started as one of {count}, process 0 as one of {of}: all need the same N"
    elif number in here or not 0 < number < of:
        wrong = f"two processes were started as {number}/{of}: each needs a number of its own"
    if wrong:
        _tell(line, wrong)
        line.close()
        return wrong
    here[number] = line
    return GO


def _say(host: str, port: int, process: int, of: int, until: float, patience: float) -> None:
    while True:
        try:
            line = socket.create_connection((host, port), timeout=ANSWER_TIMEOUT_SECONDS)
            break
        except OSError as error:
            if time.monotonic() > until:
                raise ValueError(
                    f"process 0 was not found at {host}:{port} in {patience:.0f} s ({error}). Start every process with "
                    "the same N and HOST:PORT, and a HOST that all can reach"
                ) from None
            time.sleep(RETRY_SECONDS)
    with line:
        socket_lines.send(line, f"{process}/{of}")
        told = _line(line, max(0.0, until - time.monotonic()) + ANSWER_TIMEOUT_SECONDS)
    if told != GO:
        raise ValueError(told or f"process 0 at {host}:{port} ended before all had come; its own output says why")


def _tell(line: socket.socket, said: str) -> None:
    with contextlib.suppress(OSError):  # who has ended meanwhile needs no answer; JAX misses it, too
        socket_lines.send(line, said)


def _line(line: socket.socket, patience: float) -> str:
    """One line, or "" where there is none in this time."""
    line.settimeout(patience)
    try:
        return socket_lines.receive(line)
    except OSError:  # it closed, or says nothing
        return ""


def _named(numbers: list[int]) -> str:
    """At most a few of them."""
    few = ", ".join(map(str, numbers[:8])) + (f" and {len(numbers) - 8} more" if len(numbers) > 8 else "")
    return f"process {few}" if len(numbers) == 1 else f"processes {few}"
