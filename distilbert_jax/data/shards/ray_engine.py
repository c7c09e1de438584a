"""Reading and packing on the nodes of a Ray cluster: as `workers.Here`, and the same shards to the byte.

A task is a file to be looked at, or some chunks that begin in one. Ray gives what a lost worker or node had to another,
and nothing depends on who did it, or when. Every node has to see the same files under the same names; shards come back
to this process, which writes them, so that nodes need no other disk in common.
"""

import collections
import dataclasses
import itertools
import os
import pathlib
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from distilbert_jax.data.shards import local_engine, packing, splits
from distilbert_jax.data.shards.chunks import Part, Sources, parts
from distilbert_jax.data.sources.base import Source
from distilbert_jax.data.tokenizer.tokenizer import Tokenizer
from distilbert_jax.io.console import progress_bar

TRIES = 4  # of a task whose worker or node is lost
CALLING = 10.0  # seconds
AHEAD = 2  # tasks a core that are on their way at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
    """What one reading of a file tells: `about` for the manifest, and each document's fingerprint and length."""

    about: dict[str, Any]
    prints: bytes
    lengths: np.ndarray  # [documents], characters


class RayEngine:
    """The Ray cluster at an address, as `ray start --head` prints it; "auto" is the one this machine is part of."""

    def __init__(self, address: str):
        try:
            import ray
        except ImportError:
            raise ValueError("--ray-address needs the extra `cluster`: pip install 'distilbert_jax[cluster]'") from None
        self._ray = ray
        try:
            if address != "auto":
                _demand_listening(address)  # for which Ray would wait minutes
            ray.init(address=address, log_to_driver=False, configure_logging=False)
        except (OSError, RuntimeError, ValueError) as error:
            said = str(error).strip().splitlines()[0]
            raise ValueError(
                f"--ray-address {address}: there is no Ray cluster at this address; `ray start --head` starts one and "
                f"prints its address: {said}"
            ) from None
        self._cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._looks: list[Look] = []

    def files(self, sources: Sources) -> list[dict[str, Any]]:
        """What the manifest says of every file that is read. Reads them all, for what comes after, too."""
        listed = [(name, source, path) for name, source in sources for path in source.files()]
        with progress_bar("reading files", total=len(listed)) as advance:
            for look in self._map(look_at, ((source, path) for _, source, path in listed)):
                self._looks.append(look)
                advance(len(self._looks))
        return [{"source": name, **look.about} for (name, _, _), look in zip(listed, self._looks, strict=True)]

    def fingerprints(self, sources: Sources) -> Iterator[tuple[str, bytes]]:
        """(source, fingerprints of the documents of a file), in order."""
        names = (name for name, source in sources for _ in source.files())
        return ((name, look.prints) for name, look in zip(names, self._looks, strict=True))

    def shards(
        self, sources: Sources, side_of: np.ndarray, tokenizer: Tokenizer, *, sequence_length: int, folder: pathlib.Path
    ) -> Iterator[dict[str, Any]]:
        """Makes every shard that is not there yet; yields what each holds."""
        waiting = []
        for part in parts(sources, side_of, [look.lengths for look in self._looks]):
            there = [local_engine.done(folder, name) for name in part.sizes]
            if all(there):
                yield from filter(None, there)
            else:
                waiting.append(part)
        shared = self._ray.put(tokenizer)
        for packed in self._map(pack, ((part, shared, sequence_length) for part in waiting)):
            yield from (local_engine.keep(name, rows, folder) for name, rows in packed.items())

    def _map(self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """The results of the calls, in their order."""
        from ray import exceptions

        task = self._ray.remote(num_cpus=1, max_retries=TRIES - 1)(function)
        calls = iter(calls)
        running: collections.deque[Any] = collections.deque()
        try:
            while True:
                for call in itertools.islice(calls, AHEAD * self._cores - len(running)):
                    running.append(task.remote(*call))
                if not running:
                    return
                yield self._ray.get(running.popleft())
        except exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, ValueError | OSError) else error) from None
        except exceptions.RayError as error:
            said = str(error).strip().splitlines()[0]
            raise ValueError(
                f"a worker of the cluster was lost {TRIES} times over one task, likely for want of memory; the same "
                f"command goes on where it stopped: {said}"
            ) from None


def _demand_listening(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError("write HOST:PORT, or auto")
    socket.create_connection((host, int(port)), timeout=CALLING).close()


def look_at(source: Source, path: pathlib.Path) -> Look:
    """On a worker."""
    if not path.is_file():
        raise ValueError(f"the node {socket.gethostname()} does not see {path}: every node needs the corpus's files")
    prints, lengths = bytearray(), []
    for text in source.read(path):
        prints += splits.fingerprint(text)
        lengths.append(len(text))
    return Look(about=local_engine.about(path), prints=bytes(prints), lengths=np.array(lengths, np.uint32))


def pack(part: Part, tokenizer: Tokenizer, sequence_length: int) -> dict[str, packing.PackedTexts]:
    """On a worker: what each chunk's shard holds."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core a task
    return {chunk.name: packing.pack(chunk.texts, tokenizer, sequence_length=sequence_length) for chunk in part.read()}
