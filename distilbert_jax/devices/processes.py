"""Runs several processes as one: they find each other, wait for each other, and end together.

Process 0 prepares the data, logs and exports; the others train with it. All of them write checkpoints, into one folder
that all of them see. A process that dies leaves the others in a collective operation that may never return. Therefore
each process keeps a TCP connection to process 0: if it closes without a goodbye, the process at its end was lost.
"""

import contextlib
import os
import re
import secrets
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax._src import clusters  # jax.distributed.initialize uses it to detect the cluster

from distilbert_jax.devices import rendezvous
from distilbert_jax.devices.socket_lines import receive, send
from distilbert_jax.io.console import console

SINGLE_PROCESS = 1  # the process count of a run that is not distributed

KEEPALIVE_OPTIONS = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""Seconds, seconds and a count: a host that vanished without closing its connection is noticed after 10 + 3 · 5 s."""

DISTRIBUTED_ARGUMENTS = ("coordinator_address", "num_processes", "process_id", "local_device_ids")
"""The arguments of `jax.distributed.initialize`, in the order in which JAX detects them."""

CONNECT_TIMEOUT_SECONDS = 300.0  # until all processes have found each other
IDENTIFY_TIMEOUT_SECONDS = 10.0  # until a process that connected to process 0 has identified itself
SAME_ERROR_WAIT_SECONDS = 3.0  # until this process meets by itself an error that another process has reported
LEAVE_TIMEOUT_SECONDS = 60.0  # how long process 0 waits for the others at the end
MAX_INVITATION_BYTES = 512
MAX_MESSAGE_CHARACTERS = 200  # of the message with which all processes end; a character has at most four bytes

# The messages between processes. "lost" is followed by the process and the reason, "ended" by the exit status and what
# to print.
GO_AHEAD, GOODBYE, LOST, ENDED = "go", "bye", "lost", "ended"


def is_first() -> bool:
    """Returns whether this is process 0, which writes everything that is written only once."""
    return jax.process_index() == 0


def broadcast_first(value: int) -> int:
    """Returns, in every process, the value that process 0 passes."""
    from jax.experimental import multihost_utils

    if jax.process_count() == SINGLE_PROCESS:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def parse_process(text: str) -> dict[str, Any]:
    """Parses the value of `--distributed` into arguments for `jax.distributed.initialize`.

    Args:
        text: "I/N@HOST:PORT" for process I of N, where process 0 listens at HOST:PORT; or "auto", where JAX detects
            the values by itself (Slurm, Cloud TPU, Kubernetes, Open MPI).

    Raises:
        ValueError: if the text is neither.
    """
    if text == "auto":
        detected = clusters.ClusterEnv.auto_detect_unset_distributed_params(
            None, None, None, None, None, round(CONNECT_TIMEOUT_SECONDS)
        )
        return dict(zip(DISTRIBUTED_ARGUMENTS, detected, strict=True))
    match = re.fullmatch(r"(\d+)/(\d+)@(.+:\d+)", text)
    if not match or int(match[1]) >= int(match[2]):
        raise ValueError(f"--distributed {text}: write I/N@HOST:PORT, such as 0/2@localhost:9876, or auto")
    return dict(zip(DISTRIBUTED_ARGUMENTS, (match[3], int(match[2]), int(match[1])), strict=False))


def init_distributed(text: str) -> None:
    """Connects this process to the others of a run. From then on, only process 0 writes to the console.

    Args:
        text: the value of `--distributed`, as for `parse_process`.

    Raises:
        ValueError: if the text cannot be parsed, or not all processes connect in time; the message names those that
            are missing.
    """
    arguments = parse_process(text)
    # Without the first option, JAX aborts this process when another one is lost, with a stack trace that does not say
    # what to do. Without the second, JAX handles SIGTERM itself.
    jax.config.update("jax_enable_recoverability", True)
    jax.config.update("jax_enable_preemption_service", False)
    address, process_count, process = (arguments[name] for name in DISTRIBUTED_ARGUMENTS[:3])
    try:
        if None not in (address, process_count, process):
            rendezvous.rendezvous(address, process, process_count, timeout_seconds=CONNECT_TIMEOUT_SECONDS)
        jax.distributed.initialize(**arguments, initialization_timeout=round(CONNECT_TIMEOUT_SECONDS))
    except (RuntimeError, ValueError, OSError) as error:
        raise ValueError(f"--distributed {text}: {error}") from None
    console.quiet = not is_first()


class ProcessGroup:
    """The processes of a run, as a context manager that ends all of them together.

    Inside `with ProcessGroup() as group`, the loss of another process ends this one with an error message. Otherwise
    this process could wait in a collective operation for ever. In a run of one process nothing happens.
    """

    def __init__(self) -> None:
        # By process number. Process 0 is connected to all others, and the others to process 0 only.
        self._connections: dict[int, socket.socket] = {}
        self._listeners: list[threading.Thread] = []
        self._may_go_ahead = threading.Semaphore(0)
        self._is_leaving = threading.Event()  # once it is set, a connection that closes is no loss

    @contextlib.contextmanager
    def first_process_runs_first(self) -> Iterator[None]:
        """Runs the block in process 0 and, after that, in the other processes."""
        if not is_first():
            self._may_go_ahead.acquire()
        yield
        if is_first():
            self._send_to_all(GO_AHEAD)

    def announce_end(self, message: str, *, status: int) -> None:
        """Makes the other processes end at once with the same message and exit status. The caller ends this one."""
        self._is_leaving.set()
        self._send_to_all(f"{ENDED} {status} {message[:MAX_MESSAGE_CHARACTERS]}")

    def __enter__(self) -> "ProcessGroup":
        """Connects the processes and starts to listen to them."""
        if jax.process_count() > SINGLE_PROCESS:
            self._connect()
            for process, connection in self._connections.items():
                listener = threading.Thread(target=self._listen_to, args=(process, connection), daemon=True)
                self._listeners.append(listener)
                listener.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Says goodbye, or reports the error that ended this process to the others."""
        if jax.process_count() == SINGLE_PROCESS:
            return
        self._is_leaving.set()
        # A signal reaches all processes, so it is not reported; an error may have occurred in this one only.
        if not issubclass(kind or KeyboardInterrupt, KeyboardInterrupt):
            self._send_to_all(f"{LOST} {jax.process_index()} (it ended with an error)")
        # JAX aborts a process that leaves after process 0, so process 0 waits for the others.
        for listener in self._listeners if is_first() else []:
            listener.join(LEAVE_TIMEOUT_SECONDS)
        jax.distributed.shutdown()
        self._send_to_all(GOODBYE)

    def _connect(self) -> None:
        """Connects every other process to process 0.

        Process 0 broadcasts an invitation: its host, its port, and a secret that proves that a caller belongs to the
        run.
        """
        from jax.experimental import multihost_utils

        padded = np.zeros(MAX_INVITATION_BYTES, np.uint8)
        if is_first():
            server = socket.create_server(("", 0))
            invitation = f"{socket.gethostname()} {server.getsockname()[1]} {secrets.token_hex(16)}"
            padded[: len(invitation)] = np.frombuffer(invitation.encode(), np.uint8)
        invitation = bytes(multihost_utils.broadcast_one_to_all(padded)).rstrip(b"\0").decode()
        host, port, _ = invitation.split()
        if is_first():
            while len(self._connections) < jax.process_count() - 1:
                connection = server.accept()[0]
                connection.settimeout(IDENTIFY_TIMEOUT_SECONDS)
                received, _, process = receive(connection).rpartition(" ")
                if received == invitation:
                    self._connections[int(process)] = connection
            server.close()
        else:
            self._connections[0] = socket.create_connection((host, int(port)))
            send(self._connections[0], f"{invitation} {jax.process_index()}")
        for connection in self._connections.values():
            connection.settimeout(None)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in KEEPALIVE_OPTIONS.items():
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    def _listen_to(self, process: int, connection: socket.socket) -> None:
        """Handles the messages of another process until it says goodbye or is lost. Runs in a thread of its own."""
        message = ""
        while message != GOODBYE:
            try:
                message, _, lost = receive(connection).partition(" ")
            except OSError as error:
                message, lost = "", f"{process} ({error})"
            if message == ENDED:
                self._end_with(process, lost)
            elif message == GO_AHEAD:
                self._may_go_ahead.release()
            # An error such as bad input occurs in all processes. Each then has time to report it by itself.
            elif message == LOST and not self._is_leaving.wait(SAME_ERROR_WAIT_SECONDS):
                self._end_after_loss(process, lost)
            elif not message:
                if not self._is_leaving.is_set():
                    self._end_after_loss(process, lost or f"{process} (its connection closed)")
                return

    def _end_with(self, sender: int, announced: str) -> None:
        """Passes an announced end on to all but its sender, then ends this process in the same way."""
        self._is_leaving.set()
        self._send_to_all(f"{ENDED} {announced}", except_to=sender)
        status, _, message = announced.partition(" ")
        print(message, file=sys.stderr, flush=True)  # noqa: T201
        os._exit(int(status))

    def _end_after_loss(self, sender: int, lost: str) -> None:
        """Passes the loss of a process on to all but the sender of the news, then ends this process.

        Args:
            sender: the process from which this one knows about the loss.
            lost: the number of the lost process and, in brackets, the reason.
        """
        self._send_to_all(f"{LOST} {lost}", except_to=sender)
        _exit_with_error(
            f"process {lost} of this run's {jax.process_count()} processes was lost, so process {jax.process_index()} "
            "ends too. The output of the lost process says why, unless it was killed. Run the same command again on "
            "all processes to continue from the last checkpoint"
        )

    def _send_to_all(self, message: str, *, except_to: int | None = None) -> None:
        """Sends a message to every connected process.

        A process that has ended is skipped here; the thread that listens to it notices the loss.
        """
        for process, connection in self._connections.items():
            if process != except_to:
                with contextlib.suppress(OSError):
                    send(connection, message)


def _exit_with_error(message: str) -> None:
    """Ends this process from any thread, because the main thread may be in a collective that never returns."""
    print(f"error: {message}", file=sys.stderr, flush=True)  # noqa: T201
    os._exit(1)
