"""Reads and packs a corpus on the nodes of a Ray cluster. The shards are those of `LocalEngine`, byte for byte.

A task scans one file, or packs some chunks that begin in one file. Ray gives the tasks of a lost worker or node to
another one, and the result of a task does not depend on where or when it runs. Every node must see the same files under
the same names. Workers return the shards to this process, which writes them: nodes need no other shared disk.
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
from distilbert_jax.data.shards.chunks import ChunkGroup, NamedSources, plan_chunk_groups
from distilbert_jax.data.sources.base import Source
from distilbert_jax.data.tokenizer.tokenizer import Tokenizer
from distilbert_jax.io.addresses import parse_address
from distilbert_jax.io.console import progress_bar

MAX_TASK_TRIES = 4
"""How often a task is tried whose worker or node is lost."""

CONNECT_TIMEOUT_SECONDS = 10.0
TASKS_PER_CORE = 2
"""Tasks per core that are submitted at the same time, so that no core waits for its next one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileScan:
    """What one reading of a file tells.

    Attributes:
        record: the manifest's record of the file.
        fingerprints: those of its documents, one after the other.
        lengths: [documents], in characters.
    """

    record: dict[str, Any]
    fingerprints: bytes
    lengths: np.ndarray


class RayEngine:
    """An `Engine` that prepares a corpus on a Ray cluster."""

    def __init__(self, address: str):
        """Connects to a cluster.

        Args:
            address: HOST:PORT, as `ray start --head` prints it, or "auto" for the cluster that this machine belongs to.

        Raises:
            ValueError: If Ray is not installed, the address is malformed, or no cluster answers there.
        """
        try:
            import ray
        except ImportError:
            raise ValueError("--ray-address needs the extra `cluster`: pip install 'distilbert_jax[cluster]'") from None
        self._ray = ray
        host, port = ("", 0) if address == "auto" else parse_address(address)
        try:
            if address != "auto":
                _check_listening(host, port)  # Ray itself would wait for minutes
            ray.init(address=address, log_to_driver=False, configure_logging=False)
        except (OSError, RuntimeError, ValueError) as error:
            message = str(error).strip().splitlines()[0]
            raise ValueError(
                f"--ray-address {address}: there is no Ray cluster at this address; `ray start --head` starts one and "
                f"prints its address: {message}"
            ) from None
        self._cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._scans: list[FileScan] = []

    def describe_files(self, sources: NamedSources) -> list[dict[str, Any]]:
        """Returns the manifest's record of every file.

        Files are read only once for this, for `compute_fingerprints` and for the lengths that `make_shards` needs.
        """
        listed = [(name, source, path) for name, source in sources for path in source.files()]
        with progress_bar("reading files", total=len(listed)) as advance:
            for scan in self._map(scan_file, ((source, path) for _, source, path in listed)):
                self._scans.append(scan)
                advance(len(self._scans))
        return [{"source": name, **scan.record} for (name, _, _), scan in zip(listed, self._scans, strict=True)]

    def compute_fingerprints(self, sources: NamedSources) -> Iterator[tuple[str, bytes]]:
        """Yields (name of the source, fingerprints of a file's documents) for every file in reading order."""
        names = (name for name, source in sources for _ in source.files())
        return ((name, scan.fingerprints) for name, scan in zip(names, self._scans, strict=True))

    def make_shards(
        self,
        sources: NamedSources,
        split_of: np.ndarray,
        tokenizer: Tokenizer,
        *,
        sequence_length: int,
        folder: pathlib.Path,
    ) -> Iterator[dict[str, Any]]:
        """Makes every shard that does not exist yet, and yields the records of all."""
        pending = []
        for group in plan_chunk_groups(sources, split_of, [scan.lengths for scan in self._scans]):
            shards = [local_engine.read_finished_shard(folder, name) for name in group.sizes]
            if all(shards):
                yield from filter(None, shards)
            else:
                pending.append(group)
        shared_tokenizer = self._ray.put(tokenizer)
        for packed in self._map(pack_group, ((group, shared_tokenizer, sequence_length) for group in pending)):
            yield from (local_engine.save_shard(name, rows, folder) for name, rows in packed.items())

    def _map(self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Runs one task per tuple of arguments, and yields their results in order."""
        from ray import exceptions

        task = self._ray.remote(num_cpus=1, max_retries=MAX_TASK_TRIES - 1)(function)
        calls = iter(calls)
        running: collections.deque[Any] = collections.deque()
        try:
            while True:
                for call in itertools.islice(calls, TASKS_PER_CORE * self._cores - len(running)):
                    running.append(task.remote(*call))
                if not running:
                    return
                yield self._ray.get(running.popleft())
        except exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, ValueError | OSError) else error) from None
        except exceptions.RayError as error:
            message = str(error).strip().splitlines()[0]
            raise ValueError(
                f"a task of the cluster lost its worker {MAX_TASK_TRIES} times, probably out of memory. Run the same "
                f"command again to continue: {message}"
            ) from None


def _check_listening(host: str, port: int) -> None:
    """Raises OSError if nothing listens at an address."""
    socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_SECONDS).close()


def scan_file(source: Source, path: pathlib.Path) -> FileScan:
    """Reads one file on a worker. Raises ValueError if the worker's node does not see it."""
    if not path.is_file():
        raise ValueError(f"the node {socket.gethostname()} does not see {path}: every node needs the corpus's files")
    fingerprints, lengths = bytearray(), []
    for text in source.read(path):
        fingerprints += splits.compute_fingerprint(text)
        lengths.append(len(text))
    return FileScan(
        record=local_engine.describe_file(path),
        fingerprints=bytes(fingerprints),
        lengths=np.array(lengths, np.uint32),
    )


def pack_group(group: ChunkGroup, tokenizer: Tokenizer, sequence_length: int) -> dict[str, packing.PackedTexts]:
    """Packs the chunks of a group on a worker. Returns the content of each shard by its name."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core per task
    return {chunk.name: packing.pack(chunk.texts, tokenizer, sequence_length=sequence_length) for chunk in group.read()}
