"""Several processes as one run: they find each other, wait for each other, and end together.

Process 0 prepares, logs, and exports; the others train with it. Checkpoints are written by all, into one folder that
all see. A process that dies leaves the others in a collective that may never return, so each holds a TCP connection to
process 0, whose end is the news: an orderly process says goodbye first.
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
from jax._src import clusters  # what jax.distributed.initialize asks where it is told nothing

from distilbert_jax.devices import rendezvous
from distilbert_jax.devices.socket_lines import receive, send
from distilbert_jax.io.console import console

SINGLE_PROCESS = 1  # process
KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""Seconds, seconds, times: a host that vanished without closing its connection is missed after 10 + 3 · 5 seconds."""

DISTRIBUTED_ARGUMENTS = ("coordinator_address", "num_processes", "process_id", "local_device_ids")
CONNECT_TIMEOUT_SECONDS = 300.0  # seconds until all have found each other
IDENTIFY_TIMEOUT_SECONDS = 10.0  # seconds to say who is calling
SAME_ERROR_WAIT_SECONDS = 3.0  # seconds for an error that all come to, each by itself
LEAVE_TIMEOUT_SECONDS = 60.0  # seconds that process 0 stays for the others at the end

GO, BYE, LOST = "go", "bye", "lost"


def is_first() -> bool:
    """Whether this process writes what is written once."""
    return jax.process_index() == 0


def broadcast_first(value: int) -> int:
    """What process 0 has, on every process."""
    from jax.experimental import multihost_utils

    return (
        value if jax.process_count() == SINGLE_PROCESS else int(multihost_utils.broadcast_one_to_all(np.int32(value)))
    )


def parse_process(where: str) -> dict[str, Any]:
    """What JAX is told of "I/N@HOST:PORT", process I of N, of which 0 listens at HOST:PORT, or of "auto", where JAX
    finds out by itself (Slurm, Cloud TPU, Kubernetes, Open MPI). ValueError for anything else.
    """
    stated = re.fullmatch(r"(\d+)/(\d+)@(.+:\d+)", where)
    if where == "auto":
        found = clusters.ClusterEnv.auto_detect_unset_distributed_params(
            None, None, None, None, None, round(CONNECT_TIMEOUT_SECONDS)
        )
        return dict(zip(DISTRIBUTED_ARGUMENTS, found, strict=True))
    if not stated or int(stated[1]) >= int(stated[2]):
        raise ValueError(f"--distributed {where}: write I/N@HOST:PORT, such as 0/2@localhost:9876, or auto")
    return dict(zip(DISTRIBUTED_ARGUMENTS, (stated[3], int(stated[2]), int(stated[1])), strict=False))


def init_distributed(where: str) -> None:
    """Makes this one process of several. ValueError where `where` is no place, or not all come, with those that are
    missing.
    """
    place = parse_process(where)
    # Otherwise JAX aborts this process when another is lost, with a stack trace and no word of what to do, and takes
    # SIGTERM for itself.
    jax.config.update("jax_enable_recoverability", True)
    jax.config.update("jax_enable_preemption_service", False)
    address, of, process = (place[name] for name in DISTRIBUTED_ARGUMENTS[:3])
    try:
        if None not in (address, of, process):
            rendezvous.rendezvous(address, process, of, timeout_seconds=CONNECT_TIMEOUT_SECONDS)
        jax.distributed.initialize(**place, initialization_timeout=round(CONNECT_TIMEOUT_SECONDS))
    except (RuntimeError, ValueError, OSError) as error:
        raise ValueError(f"--distributed {where}: {error}") from None
    console.quiet = not is_first()


class ProcessGroup:
    """Within `with Hosts() as hosts`, the loss of another process ends this one, with a message, instead of leaving it
    in a collective that never returns.
    """

    def __init__(self) -> None:
        self._lines: dict[int, socket.socket] = {}  # to the others; of process 0 only, but for process 0
        self._listeners: list[threading.Thread] = []
        self._go = threading.Semaphore(0)
        self._leaving = threading.Event()  # from then on nobody's end is a loss

    @contextlib.contextmanager
    def first_process_first(self) -> Iterator[None]:
        """Process 0 does what is inside before the others do."""
        if not is_first():
            self._go.acquire()
        yield
        if is_first():
            self._tell(GO)

    def __enter__(self) -> "ProcessGroup":
        if jax.process_count() > SINGLE_PROCESS:
            self._connect()
            for line in self._lines.items():
                self._listeners.append(threading.Thread(target=self._listen, args=line, daemon=True))
                self._listeners[-1].start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if jax.process_count() == SINGLE_PROCESS:
            return
        self._leaving.set()
        if not issubclass(kind or KeyboardInterrupt, KeyboardInterrupt):  # a signal all know of, an error perhaps not
            self._tell(f"{LOST} {jax.process_index()} (it ended with an error)")
        for listener in self._listeners if is_first() else []:
            listener.join(LEAVE_TIMEOUT_SECONDS)
        jax.distributed.shutdown()  # JAX aborts a process that leaves after process 0
        self._tell(BYE)

    def _connect(self) -> None:
        """Process 0 tells all where it listens, and a word that proves who is calling."""
        from jax.experimental import multihost_utils

        told = np.zeros(512, np.uint8)
        if is_first():
            listening = socket.create_server(("", 0))
            word = f"{socket.gethostname()} {listening.getsockname()[1]} {secrets.token_hex(16)}"
            told[: len(word)] = np.frombuffer(word.encode(), np.uint8)
        word = bytes(multihost_utils.broadcast_one_to_all(told)).rstrip(b"\0").decode()
        host, port, _ = word.split()
        if is_first():
            while len(self._lines) < jax.process_count() - 1:
                line = listening.accept()[0]
                line.settimeout(IDENTIFY_TIMEOUT_SECONDS)
                said, _, process = receive(line).rpartition(" ")
                if said == word:
                    self._lines[int(process)] = line
            listening.close()
        else:
            self._lines[0] = socket.create_connection((host, int(port)))
            send(self._lines[0], f"{word} {jax.process_index()}")
        for line in self._lines.values():
            line.settimeout(None)
            line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in KEEPALIVE.items():
                line.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    def _listen(self, process: int, line: socket.socket) -> None:
        """In a thread of its own, until the other says goodbye or has ended."""
        said = ""
        while said != BYE:
            try:
                said, _, who = receive(line).partition(" ")
            except OSError as error:
                said, who = "", f"{process} ({error})"
            if said == GO:
                self._go.release()
            elif said == LOST and not self._leaving.wait(SAME_ERROR_WAIT_SECONDS):
                self._lose(process, who)
            elif not said:
                if not self._leaving.is_set():
                    self._lose(process, who or f"{process} (its connection closed)")
                return

    def _lose(self, process: int, who: str) -> None:
        self._tell(f"{LOST} {who}", but=process)
        _end(
            f"process {who} of this run's {jax.process_count()} is lost, so process {jax.process_index()} ends too; "
            "its own output says why, unless it was killed. The same command on all of them goes on from the last "
            "checkpoint"
        )

    def _tell(self, word: str, *, but: int | None = None) -> None:
        for process, line in self._lines.items():
            if process != but:
                with contextlib.suppress(OSError):  # it has ended, which its listener hears
                    send(line, word)


def _end(message: str) -> None:
    """From whichever thread: the main one may be in a collective that never returns."""
    print(f"error: {message}", file=sys.stderr, flush=True)  # noqa: T201
    os._exit(1)
