"""Reads a corpus on this machine and packs it on all cores. Shards are written in the order in which they are done."""

import concurrent.futures
import itertools
import multiprocessing
import os
import pathlib
import threading
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np

from distilbert_jax.data.shards import manifest, packing, splits
from distilbert_jax.data.shards.chunks import Chunk, NamedSources, read_chunks
from distilbert_jax.data.tokenizer.tokenizer import Tokenizer
from distilbert_jax.io import files
from distilbert_jax.io.console import progress_bar

MIN_CHUNKS_FOR_PROCESSES = 4
"""With fewer chunks no processes are started: the tokenizer uses all cores by itself, the rest of packing does not."""

_tokenizer: Tokenizer  # set in worker processes only


class LocalEngine:
    """The default `Engine`, which prepares a corpus on this machine."""

    def describe_files(self, sources: NamedSources) -> list[dict[str, Any]]:
        """Returns the manifest's record of every file."""
        listed = [(name, path) for name, source in sources for path in source.files()]
        records = []
        with progress_bar("hashing files", total=len(listed)) as advance:
            for num_hashed, (name, path) in enumerate(listed, 1):
                records.append({"source": name, **describe_file(path)})
                advance(num_hashed)
        return records

    def compute_fingerprints(self, sources: NamedSources) -> Iterator[tuple[str, bytes]]:
        """Yields (name of the source, fingerprint) of every document in reading order."""
        for name, source in sources:
            for text in source.documents():
                yield name, splits.compute_fingerprint(text)

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
        return pack_chunks(read_chunks(sources, split_of), tokenizer, sequence_length=sequence_length, folder=folder)


def describe_file(path: pathlib.Path) -> dict[str, Any]:
    """Returns the manifest's record of a file: name, bytes, time of the last change and SHA-256."""
    # Before the file is read, so that a change while it is read is noticed later.
    stat = path.stat()
    return {
        "name": str(path),
        "bytes": stat.st_size,
        "modified_ns": stat.st_mtime_ns,
        "sha256": files.sha256(path),
    }


def pack_chunks(
    chunks: Iterator[Chunk], tokenizer: Tokenizer, *, sequence_length: int, folder: pathlib.Path
) -> Iterator[dict[str, Any]]:
    """Packs every chunk whose shard does not exist yet, and yields the records of all shards.

    At most two chunks per core are in memory.

    Raises:
        ValueError: If a worker process is killed.
    """
    first_chunks = list(itertools.islice(chunks, MIN_CHUNKS_FOR_PROCESSES))
    chunks = itertools.chain(first_chunks, chunks)
    if len(first_chunks) < MIN_CHUNKS_FOR_PROCESSES:
        yield from (
            read_finished_shard(folder, chunk.name) or write_shard(chunk, tokenizer, sequence_length, folder)
            for chunk in chunks
        )
        return
    cores = os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")  # a fork would copy JAX's threads
    with concurrent.futures.ProcessPoolExecutor(
        cores, mp_context=context, initializer=_start_worker, initargs=(tokenizer,)
    ) as pool:
        pending: set[concurrent.futures.Future[dict[str, Any]]] = set()
        try:
            for chunk in chunks:
                if shard := read_finished_shard(folder, chunk.name):
                    yield shard
                    continue
                pending.add(pool.submit(_write_shard_in_worker, chunk, sequence_length, folder))
                # Reading is faster than packing: without this wait the whole corpus would be read into memory.
                if len(pending) >= 2 * cores:
                    finished, pending = concurrent.futures.wait(pending, return_when=concurrent.futures.FIRST_COMPLETED)
                    yield from (future.result() for future in finished)
            yield from (future.result() for future in concurrent.futures.as_completed(pending))
        except BrokenProcessPool:
            raise ValueError(
                "a worker process was killed, probably out of memory. Run the same command again to continue"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def write_shard(chunk: Chunk, tokenizer: Tokenizer, sequence_length: int, folder: pathlib.Path) -> dict[str, Any]:
    """Packs one chunk and writes its shard. Returns the shard's record."""
    return save_shard(chunk.name, packing.pack(chunk.texts, tokenizer, sequence_length=sequence_length), folder)


def save_shard(name: str, packed: packing.PackedTexts, folder: pathlib.Path) -> dict[str, Any]:
    """Writes the arrays of a shard, then its record, which marks it as complete. Returns the record."""
    hashes = {}
    for array_name, array in zip(manifest.SHARD_ARRAYS, (packed.tokens, packed.segment_ids), strict=True):
        path = folder / f"{name}.{array_name}.npy"
        files.save_array(path, array)
        hashes[array_name] = files.sha256(path)
    shard = {"name": name, "rows": len(packed.tokens), "sha256": hashes, "counts": dict(packed.counts)}
    files.write_json(folder / f"{name}.json", shard)
    return shard


def read_finished_shard(folder: pathlib.Path, name: str) -> dict[str, Any] | None:
    """Returns the record of a shard, or None if the shard is not complete."""
    path = folder / f"{name}.json"
    return manifest.read_shard(path) if path.is_file() else None


def _start_worker(tokenizer: Tokenizer) -> None:
    """Sets up a worker process."""
    global _tokenizer
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core per process
    _tokenizer = tokenizer


def _exit_with_parent() -> None:
    """Ends this worker process when its parent ends.

    If the parent is killed, a worker would otherwise wait for ever, or write where the next start of the command does.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _write_shard_in_worker(chunk: Chunk, sequence_length: int, folder: pathlib.Path) -> dict[str, Any]:
    """Packs one chunk with the tokenizer of this worker process, and writes its shard."""
    return write_shard(chunk, _tokenizer, sequence_length, folder)
