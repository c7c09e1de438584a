"""Reading on this machine, and packing on all its cores: chunks of documents out, shards on disk back, in whatever
order they are done.
"""

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
from distilbert_jax.data.shards.chunks import Chunk, Sources, stream
from distilbert_jax.data.tokenizer.tokenizer import Tokenizer
from distilbert_jax.io import files
from distilbert_jax.io.console import progress_bar

WORTH_A_PROCESS = 4
"""Chunks from which on processes are started: the tokenizer uses all cores by itself, the rest of packing does not."""

_tokenizer: Tokenizer  # of a worker process


class LocalEngine:
    """This machine, for who prepares a corpus."""

    def files(self, sources: Sources) -> list[dict[str, Any]]:
        """What the manifest says of every file that is read."""
        listed = [(name, path) for name, source in sources for path in source.files()]
        found = []
        with progress_bar("hashing files", total=len(listed)) as advance:
            for done, (name, path) in enumerate(listed, 1):
                found.append({"source": name, **about(path)})
                advance(done)
        return found

    def fingerprints(self, sources: Sources) -> Iterator[tuple[str, bytes]]:
        """(source, fingerprint) of every document, in order."""
        for name, source in sources:
            for text in source.documents():
                yield name, splits.fingerprint(text)

    def shards(
        self,
        sources: Sources,
        side_of: np.ndarray,
        tokenizer: Tokenizer,
        *,
        sequence_length: int,
        folder: pathlib.Path,
    ) -> Iterator[dict[str, Any]]:
        """Makes every shard that is not there yet; yields what each holds."""
        return pack_all(stream(sources, side_of), tokenizer, sequence_length=sequence_length, folder=folder)


def about(path: pathlib.Path) -> dict[str, Any]:
    return {"name": str(path), "bytes": path.stat().st_size, "sha256": files.sha256(path)}


def pack_all(
    chunks: Iterator[Chunk], tokenizer: Tokenizer, *, sequence_length: int, folder: pathlib.Path
) -> Iterator[dict[str, Any]]:
    """Packs every chunk whose shard is not there yet; yields what each shard holds. At most two chunks a core wait
    in memory.
    """
    first = list(itertools.islice(chunks, WORTH_A_PROCESS))
    chunks = itertools.chain(first, chunks)
    if len(first) < WORTH_A_PROCESS:
        yield from (
            done(folder, chunk.name) or write_shard(chunk, tokenizer, sequence_length, folder) for chunk in chunks
        )
        return
    cores = os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")  # a fork would copy JAX's threads
    with concurrent.futures.ProcessPoolExecutor(
        cores, mp_context=context, initializer=_start, initargs=(tokenizer,)
    ) as pool:
        waiting: set[concurrent.futures.Future[dict[str, Any]]] = set()
        try:
            for chunk in chunks:
                if there := done(folder, chunk.name):
                    yield there
                    continue
                waiting.add(pool.submit(_work, chunk, sequence_length, folder))
                if len(waiting) >= 2 * cores:
                    ended, waiting = concurrent.futures.wait(waiting, return_when=concurrent.futures.FIRST_COMPLETED)
                    yield from (future.result() for future in ended)
            yield from (future.result() for future in concurrent.futures.as_completed(waiting))
        except BrokenProcessPool:
            raise ValueError(
                "a worker process was killed, likely for want of memory; the same command goes on where it stopped"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def write_shard(chunk: Chunk, tokenizer: Tokenizer, sequence_length: int, folder: pathlib.Path) -> dict[str, Any]:
    """Packs one chunk to disk."""
    return keep(chunk.name, packing.pack(chunk.texts, tokenizer, sequence_length=sequence_length), folder)


def keep(name: str, packed: packing.PackedTexts, folder: pathlib.Path) -> dict[str, Any]:
    """Writes a shard. Its `.json`, written last, says that it is whole."""
    hashes = {}
    for part, array in zip(manifest.PARTS, (packed.tokens, packed.segment_ids), strict=True):
        path = folder / f"{name}.{part}.npy"
        with files.write_atomically(path) as partial, open(partial, "wb") as out:
            np.save(out, array)
        hashes[part] = files.sha256(path)
    shard = {"name": name, "rows": len(packed.tokens), "sha256": hashes, "counts": dict(packed.counts)}
    files.write_json(folder / f"{name}.json", shard)
    return shard


def done(folder: pathlib.Path, name: str) -> dict[str, Any] | None:
    """What the shard of this name holds, where it is there and whole."""
    path = folder / f"{name}.json"
    return manifest.read_shard(path) if path.is_file() else None


def _start(tokenizer: Tokenizer) -> None:
    global _tokenizer
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core a process
    _tokenizer = tokenizer


def _end_with_parent() -> None:
    """Without a parent that was killed a worker would wait for ever, or write where the next start does."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(chunk: Chunk, sequence_length: int, folder: pathlib.Path) -> dict[str, Any]:
    return write_shard(chunk, _tokenizer, sequence_length, folder)
