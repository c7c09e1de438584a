"""Makes sure that all processes of a run are there before JAX connects them.

JAX aborts a process if others do not connect, with a stack trace and without their names. Therefore each process first
reports its number to process 0, which then tells all of them to go ahead or what is wrong. This happens on the port
on which JAX listens right after it.
"""

import contextlib
import re
import socket
import time

from distilbert_jax.devices import socket_lines
from distilbert_jax.io.addresses import parse_address
from distilbert_jax.messages import format_list

GO_AHEAD = "go"
ANSWER_TIMEOUT_SECONDS = 10.0
"""How long process 0 may take to answer after the others' time is up, and how long others may take to say their number.
"""
RETRY_SECONDS = 0.2  # seconds between two attempts to connect to process 0
MAX_NAMED_PROCESSES = 8  # in an error message
_HINT = "Start every process with the same N and HOST:PORT, and choose a HOST that all of them can reach"


def rendezvous(address: str, process: int, process_count: int, *, timeout_seconds: float) -> None:
    """Waits until all processes of a run have connected to process 0.

    Args:
        address: HOST:PORT, where process 0 listens.
        process: the number of this process, counted from 0.
        process_count: the number of processes of the run.
        timeout_seconds: how long to wait.

    Raises:
        ValueError: if processes did not connect in time (the message lists them), if two have the same number or if
            they disagree about the number of processes. It is raised in every process that connected.
    """
    host, port = parse_address(address)
    deadline = time.monotonic() + timeout_seconds
    if process == 0:
        _gather_processes(port, process_count, deadline, timeout_seconds)
    else:
        _report_to_first_process(host, port, process, process_count, deadline, timeout_seconds)


def _gather_processes(port: int, process_count: int, deadline: float, timeout_seconds: float) -> None:
    """In process 0: accepts the other processes, then tells all of them to go ahead or what is wrong."""
    connections: dict[int, socket.socket] = {}
    try:
        answer = GO_AHEAD
        with socket.create_server(("", port), backlog=process_count) as server:
            while len(connections) < process_count - 1 and answer == GO_AHEAD:
                answer = _accept_process(server, connections, process_count, deadline)
        if answer != GO_AHEAD:
            missing = sorted(set(range(1, process_count)) - connections.keys())
            answer = answer or (
                f"the run has {process_count} processes, but {_format_processes(missing)} did not connect within "
                f"{timeout_seconds:.0f} s. {_HINT}"
            )
        for connection in connections.values():
            _reply(connection, answer)
    finally:
        for connection in connections.values():
            connection.close()
    if answer != GO_AHEAD:
        raise ValueError(answer)


def _accept_process(
    server: socket.socket, connections: dict[int, socket.socket], process_count: int, deadline: float
) -> str:
    """Accepts one connection and adds it to `connections`.

    Returns:
        GO_AHEAD if nothing is wrong, "" if nobody connected before the deadline, or else what is wrong.
    """
    server.settimeout(max(0.01, deadline - time.monotonic()))
    try:
        connection = server.accept()[0]
    except TimeoutError:
        return ""
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", _receive_or_empty(connection, ANSWER_TIMEOUT_SECONDS))
    # Another program may try the port. It is not part of the run, so it is no error.
    if not match:
        connection.close()
        return GO_AHEAD
    process, its_process_count = int(match[1]), int(match[2])
    problem = ""
    if its_process_count != process_count:
        problem = (
            f"process {process} was started as one of {its_process_count}, but process 0 as one of {process_count}; "
            "start all of them with the same N"
        )
    elif process in connections or not 0 < process < process_count:
        problem = f"two processes were started as {process}/{process_count}; give each process its own number I"
    if problem:
        _reply(connection, problem)
        connection.close()
        return problem
    connections[process] = connection
    return GO_AHEAD


def _report_to_first_process(
    host: str, port: int, process: int, process_count: int, deadline: float, timeout_seconds: float
) -> None:
    """In every other process: sends its number to process 0 and waits for the answer."""
    while True:
        try:
            connection = socket.create_connection((host, port), timeout=ANSWER_TIMEOUT_SECONDS)
            break
        except OSError as error:
            if time.monotonic() > deadline:
                raise ValueError(
                    f"process 0 could not be reached at {host}:{port} within {timeout_seconds:.0f} s ({error}). {_HINT}"
                ) from None
            time.sleep(RETRY_SECONDS)
    with connection:
        socket_lines.send(connection, f"{process}/{process_count}")
        answer = _receive_or_empty(connection, max(0.0, deadline - time.monotonic()) + ANSWER_TIMEOUT_SECONDS)
    if answer != GO_AHEAD:
        raise ValueError(
            answer
            or f"process 0 at {host}:{port} ended before all processes had connected; its own output says why. Start "
            "all of them again"
        )


def _reply(connection: socket.socket, text: str) -> None:
    """Sends an answer. A process that has ended needs none, and JAX will notice that it is missing."""
    with contextlib.suppress(OSError):
        socket_lines.send(connection, text)


def _receive_or_empty(connection: socket.socket, timeout_seconds: float) -> str:
    """Returns one line, or "" if the connection was closed or no line came in time."""
    connection.settimeout(timeout_seconds)
    try:
        return socket_lines.receive(connection)
    except OSError:
        return ""


def _format_processes(processes: list[int]) -> str:
    """Formats the numbers of processes for an error message; the first few if there are many."""
    text = format_list(processes, max_items=MAX_NAMED_PROCESSES)
    return f"process {text}" if len(processes) == 1 else f"processes {text}"
