"""Text to shards on disk: read, drop duplicates, hold out, pack on all cores, and write down what was done.

A folder without `manifest.json` is not whole; it is written last. A run that was killed goes on with the chunks that
are missing.
"""

import collections
import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from distilbert_jax import files, untrusted
from distilbert_jax.data import sides, workers
from distilbert_jax.data.corpus import Files, Source
from distilbert_jax.data.manifest import MOST
from distilbert_jax.data.manifest import read as read_manifest
from distilbert_jax.data.packing import SHORTEST
from distilbert_jax.data.sides import DROPPED, HELD_OUT, SIDES, TRAIN
from distilbert_jax.data.tokens import Tokenizer
from distilbert_jax.progress import bar, console

CHUNK = 2**21  # characters packed together
FORMAT = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus:
    """What is read, and where its rows are kept.

    `held_out` is a share of the documents, chosen by hash, or a source of its own; a document that stands there stands
    nowhere else.
    """

    sources: Mapping[str, Source]
    folder: str  # of the shards
    row_length: int = 512
    held_out: float | Files | Source = 0.005

    def __post_init__(self) -> None:
        if not isinstance(self.held_out, Source) and not 0 < self.held_out < 1:
            raise ValueError(f"corpus.held_out must be a share between 0 and 1 or files, not {self.held_out}")
        if self.row_length < SHORTEST:
            raise ValueError(f"corpus.row_length must be at least {SHORTEST}, not {self.row_length}")

    def settings(self, tokenizer: Tokenizer) -> dict[str, str]:
        """All that decides what the shards hold, as text."""
        return {
            "format": str(FORMAT),
            **{f"sources.{name}": repr(source) for name, source in self.sources.items()},
            "row_length": str(self.row_length),
            "held_out": repr(self.held_out),
            "tokenizer": tokenizer.sha256,
        }

    def named_sources(self) -> list[tuple[str, Source]]:
        """A source that is held out comes first, so that what repeats it is dropped."""
        return ([(HELD_OUT, self.held_out)] if isinstance(self.held_out, Source) else []) + list(self.sources.items())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """A corpus whose shards are whole."""

    folder: pathlib.Path
    tokenizer: Tokenizer
    manifest: dict[str, Any]
    words: np.ndarray  # [v], how often each stands in the training rows

    @property
    def shards(self) -> dict[str, list[dict[str, Any]]]:
        return self.manifest["shards"]

    @property
    def sha256(self) -> str:
        """Of the manifest, and so of everything."""
        return files.sha256(self.folder / "manifest.json")


def prepare(corpus: Corpus, tokenizer: Tokenizer) -> Prepared:
    """Makes the shards of `corpus` in its folder, unless they are there.

    Raises ValueError where the folder holds other shards, a source cannot be read, or nothing is left to train on or to
    hold out.
    """
    folder = pathlib.Path(corpus.folder)
    if not (folder / "manifest.json").is_file():
        with files.alone_in(folder):
            _make(corpus, tokenizer, folder)
    manifest = _checked_manifest(corpus, tokenizer, folder)
    words = folder / "words.npy"
    if not words.is_file() or files.sha256(words) != manifest["words"]["sha256"]:
        raise ValueError(f"{words} is missing or damaged: delete {folder} and prepare the corpus anew")
    counts = np.array(untrusted.array(words, kind="i", axes=1))
    return Prepared(folder=folder, tokenizer=tokenizer, manifest=manifest, words=counts)


def _make(corpus: Corpus, tokenizer: Tokenizer, folder: pathlib.Path) -> None:
    console.print(f"preparing {', '.join(corpus.sources)} → {folder}")
    plan = {"settings": corpus.settings(tokenizer), "files": _hash_files(corpus)}
    _continue_or_clean(folder, plan)
    share = 0.0 if isinstance(corpus.held_out, Source) else corpus.held_out
    side_of = sides.choose(corpus.named_sources(), share=share, folder=folder)
    shards = _pack(corpus, tokenizer, side_of, folder)
    manifest = plan | _account(corpus, tokenizer, side_of, shards, folder)
    files.write_json(folder / "manifest.json", manifest)
    (folder / "sides.bin").unlink()
    (folder / "plan.json").unlink()
    totals = manifest["totals"]
    console.print(
        f"{totals['documents']:,} documents; dropped: {totals['duplicates']:,} duplicates, {totals['short']:,} short "
        f"and {totals['unknown']:,} mostly unknown pieces\n{totals['rows']:,} rows of {corpus.row_length}, "
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
            f"{folder} holds other shards; take another corpus.folder, or delete it:\n" + "\n".join(differences)
        )
    return manifest


def _hash_files(corpus: Corpus) -> list[dict[str, Any]]:
    listed = [(name, path) for name, source in corpus.named_sources() for path in source.files()]
    hashed = []
    with bar("hashing files", total=len(listed)) as advance:
        for done, (name, path) in enumerate(listed, 1):
            hashed.append(
                {"source": name, "name": str(path), "bytes": path.stat().st_size, "sha256": files.sha256(path)}
            )
            advance(done)
    return hashed


def _continue_or_clean(folder: pathlib.Path, plan: dict[str, Any]) -> None:
    """Keeps the chunks of an earlier start of this very plan; removes those of another."""
    path = folder / "plan.json"
    if path.is_file() and untrusted.read_json(path, dict[str, Any], most=MOST) == plan:
        console.print(f"going on with {len(list(folder.glob('*-[0-9]*.json')))} chunks that are there already")
        return
    for old in itertools.chain(*(folder.glob(f"{side}-*") for side in SIDES)):
        old.unlink()
    files.write_json(path, plan)


def _chunks(corpus: Corpus, side_of: np.ndarray) -> Iterator[workers.Chunk]:
    """The kept documents in order, some two million characters at a time, each side for itself."""
    numbers: collections.Counter[str] = collections.Counter()
    side = iter(side_of)
    for _, source in corpus.named_sources():
        waiting: dict[str, list[str]] = {name: [] for name in SIDES}
        sizes = dict.fromkeys(SIDES, 0)
        for text in source.documents():
            number = int(next(side))
            if number == DROPPED:
                continue
            name = SIDES[number]
            waiting[name].append(text)
            sizes[name] += len(text)
            if sizes[name] >= CHUNK:
                yield _chunk(name, numbers, waiting[name])
                waiting[name], sizes[name] = [], 0
        yield from (_chunk(name, numbers, texts) for name, texts in waiting.items() if texts)


def _chunk(name: str, numbers: collections.Counter[str], texts: list[str]) -> workers.Chunk:
    numbers[name] += 1
    return workers.Chunk(name=f"{name}-{numbers[name]:05d}", texts=texts)


def _pack(corpus: Corpus, tokenizer: Tokenizer, side_of: np.ndarray, folder: pathlib.Path) -> list[dict[str, Any]]:
    shards = []
    kept = int(np.count_nonzero(side_of != DROPPED))
    with bar("packing documents", total=kept) as advance:
        done = 0
        for shard in workers.pack_all(_chunks(corpus, side_of), tokenizer, row_length=corpus.row_length, folder=folder):
            shards.append(shard)
            done += shard["counts"]["documents"]
            advance(done)
    return sorted(shards, key=lambda shard: shard["name"])


def _account(
    corpus: Corpus, tokenizer: Tokenizer, side_of: np.ndarray, shards: list[dict[str, Any]], folder: pathlib.Path
) -> dict[str, Any]:
    """The rest of the manifest: shards, totals, and how often each word stands in the training rows."""
    by_side = {side: [shard for shard in shards if shard["name"].startswith(side)] for side in SIDES}
    rows = {side: sum(shard["rows"] for shard in by_side[side]) for side in SIDES}
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
        "words": {"sha256": _count_words(tokenizer, by_side[TRAIN], folder)},
        "totals": {
            **totals,
            "duplicates": int(np.count_nonzero(side_of == DROPPED)),
            "held_out_rows": rows[HELD_OUT],
            "real_share": totals["tokens"] / (totals["rows"] * corpus.row_length),
        },
    }


def _count_words(tokenizer: Tokenizer, shards: list[dict[str, Any]], folder: pathlib.Path) -> str:
    """Writes `words.npy`; returns its hash."""
    words = np.zeros(tokenizer.size, np.int64)
    for shard in shards:
        tokens = untrusted.array(folder / f"{shard['name']}.tokens.npy", kind="u", axes=2)
        words += np.bincount(tokens.ravel(), minlength=tokenizer.size)
    path = folder / "words.npy"
    with files.atomic(path) as partial, open(partial, "wb") as out:
        np.save(out, words)
    return files.sha256(path)
