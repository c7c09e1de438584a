"""Text to shards on disk: read, drop duplicates, hold out, pack on all cores, and write down what was done.

A folder without `manifest.json` is not whole; it is written last. A run that was killed goes on with the chunks that
are missing.
"""

import collections
import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from distilbert_jax.data.shards import local_engine, splits
from distilbert_jax.data.shards.chunks import Sources
from distilbert_jax.data.shards.manifest import FORMAT, MOST, Formatted, check_shard_format
from distilbert_jax.data.shards.manifest import read as read_manifest
from distilbert_jax.data.shards.packing import SHORTEST
from distilbert_jax.data.shards.splits import DROPPED, HELD_OUT, SPLITS, TRAIN
from distilbert_jax.data.sources.base import Source
from distilbert_jax.data.sources.files import TextFiles
from distilbert_jax.data.tokenizer.tokenizer import Tokenizer
from distilbert_jax.io import files, remote_folder, untrusted
from distilbert_jax.io.console import console, progress_bar

COUNTS_FILE = "token_counts.npy"
"""[v] int64: how often each token of the vocabulary occurs in the training rows."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus:
    """What is read, and where its rows are kept.

    `held_out` is a share of the documents, chosen by hash, or a source of its own; a document that stands there stands
    nowhere else.
    """

    sources: Mapping[str, Source]
    shard_dir: str  # of the shards
    sequence_length: int = 512
    held_out: float | TextFiles | Source = 0.005

    def __post_init__(self) -> None:
        if not isinstance(self.held_out, Source) and not 0 < self.held_out < 1:
            raise ValueError(f"corpus.held_out must be a share between 0 and 1 or files, not {self.held_out}")
        if self.sequence_length < SHORTEST:
            raise ValueError(f"corpus.sequence_length must be at least {SHORTEST}, not {self.sequence_length}")

    def settings(self, tokenizer: Tokenizer) -> dict[str, str]:
        """All that decides what the shards hold, as text."""
        return {
            "format": str(FORMAT),
            **{f"sources.{name}": repr(source) for name, source in self.sources.items()},
            "sequence_length": str(self.sequence_length),
            "held_out": repr(self.held_out),
            "tokenizer": tokenizer.sha256,
        }

    def named_sources(self) -> list[tuple[str, Source]]:
        """A source that is held out comes first, so that what repeats it is dropped."""
        return ([(HELD_OUT, self.held_out)] if isinstance(self.held_out, Source) else []) + list(self.sources.items())


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedCorpus:
    """A corpus whose shards are whole."""

    folder: pathlib.Path
    tokenizer: Tokenizer
    manifest: dict[str, Any]
    token_counts: np.ndarray  # [v], how often each stands in the training rows

    @property
    def shards(self) -> dict[str, list[dict[str, Any]]]:
        return self.manifest["shards"]

    @property
    def sha256(self) -> str:
        """Of the manifest, and so of everything."""
        return files.sha256(self.folder / "manifest.json")


@runtime_checkable
class Engine(Protocol):
    """Who reads and packs: `workers.Here`, or a cluster. The same calls in the same order."""

    def files(self, sources: Sources) -> list[dict[str, Any]]: ...

    def fingerprints(self, sources: Sources) -> Iterator[tuple[str, bytes]]: ...

    def shards(
        self, sources: Sources, side_of: np.ndarray, tokenizer: Tokenizer, *, sequence_length: int, folder: pathlib.Path
    ) -> Iterator[dict[str, Any]]: ...


def prepare(corpus: Corpus, tokenizer: Tokenizer, engine: Engine | None = None) -> PreparedCorpus:
    """Makes the shards of `corpus` in its folder, unless they are there. Those of a store are fetched, once a machine.

    Raises ValueError where the folder holds other shards, a source cannot be read, or nothing is left to train on or to
    hold out.
    """
    stored, folder = remote_folder.remote_folder(corpus.shard_dir), remote_folder.local_path(corpus.shard_dir)
    there = stored is not None and stored.download()
    if not there and not (folder / "manifest.json").is_file():
        with files.lock_folder(folder):
            _make(corpus, tokenizer, folder, engine or local_engine.LocalEngine())
    manifest = _checked_manifest(corpus, tokenizer, folder)
    if stored and not there:
        stored.upload()
    path = folder / COUNTS_FILE
    if not path.is_file() or files.sha256(path) != manifest["token_counts"]["sha256"]:
        raise ValueError(f"{path} is missing or damaged: delete {folder} and prepare the corpus again")
    counts = np.array(untrusted.load_array(path, kind="i", axes=1))
    return PreparedCorpus(folder=folder, tokenizer=tokenizer, manifest=manifest, token_counts=counts)


def _make(corpus: Corpus, tokenizer: Tokenizer, folder: pathlib.Path, engine: Engine) -> None:
    console.print(f"preparing {', '.join(corpus.sources)} → {folder}")
    plan = {"settings": corpus.settings(tokenizer), "files": engine.files(corpus.named_sources())}
    _continue_or_clean(folder, plan)
    share = 0.0 if isinstance(corpus.held_out, Source) else corpus.held_out
    names = ", ".join(name for name, _ in corpus.named_sources())
    side_of = splits.choose(engine.fingerprints(corpus.named_sources()), share=share, folder=folder, names=names)
    shards = _pack(corpus, tokenizer, side_of, folder, engine)
    manifest = plan | _account(corpus, tokenizer, side_of, shards, folder)
    files.write_json(folder / "manifest.json", manifest)
    (folder / "splits.bin").unlink()
    (folder / "plan.json").unlink()
    totals = manifest["totals"]
    console.print(
        f"{totals['documents']:,} documents; dropped: {totals['duplicates']:,} duplicates, {totals['short']:,} short "
        f"and {totals['unknown']:,} mostly unknown pieces\n{totals['rows']:,} rows of {corpus.sequence_length}, "
        f"{totals['real_share']:.2%} of them real tokens; {totals['held_out_rows']:,} rows held out"
    )


def _checked_manifest(corpus: Corpus, tokenizer: Tokenizer, folder: pathlib.Path) -> dict[str, Any]:
    """The manifest of a folder. ValueError, with the differences, where the shards are not those of `corpus` and
    `tokenizer`.
    """
    manifest = read_manifest(folder)
    there, wanted = manifest["settings"], corpus.settings(tokenizer)
    differences = [
        f"  {key}: {there.get(key)} there, {wanted.get(key)} wanted"
        for key in sorted(there | wanted)
        if there.get(key) != wanted.get(key)
    ]
    if differences:
        raise ValueError(
            f"{folder} holds other shards; take another corpus.shard_dir, or delete it:\n" + "\n".join(differences)
        )
    return manifest


def _continue_or_clean(folder: pathlib.Path, plan: dict[str, Any]) -> None:
    """Keeps the chunks of an earlier start of this very plan; removes those of another."""
    path = folder / "plan.json"
    if path.is_file():
        earlier = untrusted.read_json(path, Formatted, max_bytes=MOST)
        check_shard_format(earlier["settings"], path)
        if earlier == plan:
            console.print(f"going on with {len(list(folder.glob('*-[0-9]*.json')))} chunks that are there already")
            return
    for old in itertools.chain(*(folder.glob(f"{side}-*") for side in SPLITS)):
        old.unlink()
    files.write_json(path, plan)


def _pack(
    corpus: Corpus, tokenizer: Tokenizer, side_of: np.ndarray, folder: pathlib.Path, engine: Engine
) -> list[dict[str, Any]]:
    shards = []
    kept = int(np.count_nonzero(side_of != DROPPED))
    sources = corpus.named_sources()
    with progress_bar("packing documents", total=kept) as advance:
        documents = 0
        for shard in engine.shards(sources, side_of, tokenizer, sequence_length=corpus.sequence_length, folder=folder):
            shards.append(shard)
            documents += shard["counts"]["documents"]
            advance(documents)
    return sorted(shards, key=lambda shard: shard["name"])


def _account(
    corpus: Corpus, tokenizer: Tokenizer, side_of: np.ndarray, shards: list[dict[str, Any]], folder: pathlib.Path
) -> dict[str, Any]:
    """The rest of the manifest: shards, totals, and how often each word stands in the training rows."""
    by_side = {side: [shard for shard in shards if shard["name"].startswith(side)] for side in SPLITS}
    rows = {side: sum(shard["rows"] for shard in by_side[side]) for side in SPLITS}
    read = f"{len(side_of):,} documents were read"
    if not rows[TRAIN]:
        raise ValueError(f"nothing to train on: {read}, and none is left after dropping duplicates and short ones")
    if not rows[HELD_OUT]:
        raise ValueError(f"nothing is held out: {read}, and held_out={corpus.held_out!r}; choose a larger share")
    totals: collections.Counter[str] = collections.Counter(short=0, unknown=0)
    for shard in shards:
        totals.update(shard["counts"])
    return {
        "licenses": {name: source.license() for name, source in corpus.named_sources()},
        "shards": by_side,
        "token_counts": {"sha256": _count_tokens(tokenizer, by_side[TRAIN], folder)},
        "totals": {
            **totals,
            "duplicates": int(np.count_nonzero(side_of == DROPPED)),
            "held_out_rows": rows[HELD_OUT],
            "real_share": totals["tokens"] / (totals["rows"] * corpus.sequence_length),
        },
    }


def _count_tokens(tokenizer: Tokenizer, shards: list[dict[str, Any]], folder: pathlib.Path) -> str:
    """Writes `token_counts.npy` and returns its SHA-256."""
    counts = np.zeros(tokenizer.vocab_size, np.int64)
    for shard in shards:
        tokens = untrusted.load_array(folder / f"{shard['name']}.tokens.npy", kind="u", axes=2)
        counts += np.bincount(tokens.ravel(), minlength=tokenizer.vocab_size)
    path = folder / COUNTS_FILE
    with files.write_atomically(path) as partial, open(partial, "wb") as out:
        np.save(out, counts)
    return files.sha256(path)
