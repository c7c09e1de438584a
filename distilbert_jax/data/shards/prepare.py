"""Prepares a corpus: reads text, drops duplicates, holds documents out, packs the rest into shards on disk, and writes
a manifest of all that decided the result.

`manifest.json` is written last: a folder without it is not complete. After a kill, the same command makes only the
chunks that are missing.
"""

import collections
import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Protocol, runtime_checkable

import numpy as np

from distilbert_jax.data.shards import local_engine, source_checks, splits
from distilbert_jax.data.shards.chunks import NamedSources
from distilbert_jax.data.shards.manifest import (
    FORMAT,
    MAX_MANIFEST_BYTES,
    FormatHeader,
    check_shard_format,
    read_manifest,
)
from distilbert_jax.data.shards.packing import MIN_PIECE_TOKENS
from distilbert_jax.data.shards.splits import DROPPED, HELD_OUT, SPLITS, TRAIN
from distilbert_jax.data.sources.base import Source
from distilbert_jax.data.tokenizer.tokenizer import Tokenizer
from distilbert_jax.fields import FieldError, Range, check_fields
from distilbert_jax.io import files, remote_folder, untrusted
from distilbert_jax.io.console import console, progress_bar
from distilbert_jax.io.folder_marker import check_remote_owner, hold_folder, write_marker
from distilbert_jax.messages import format_count, format_differences, format_list

COUNTS_FILE = "token_counts.npy"
"""[v] int64: how often each token of the vocabulary occurs in the training rows."""

MAX_SKIPPED_SHOWN = 3
"""Skipped files whose names are printed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus:
    """The text of an experiment, and where its shards are kept.

    Attributes:
        sources: what is read, by name.
        shard_dir: the folder of the shards, or its address in an object store.
        sequence_length: tokens of a row.
        held_out: a share of the documents, chosen by hash, or a source whose documents are all held out. Its documents
            are dropped where they occur in other sources.

    Raises:
        ValueError: a field has a value that is not allowed.
    """

    sources: Mapping[str, Source]
    shard_dir: str
    sequence_length: Annotated[int, Range(at_least=MIN_PIECE_TOKENS, at_most=2**16)] = 512
    held_out: Annotated[float, Range(above=0, below=1)] | Source = 0.005

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_fields(self, path="corpus")
        if not self.sources:
            raise FieldError("corpus", "sources", "is empty: give at least one source")
        if splits.HELD_OUT in self.sources:
            problem = f"cannot have a source named {splits.HELD_OUT!r}: rename it, or set corpus.held_out to it"
            raise FieldError("corpus", "sources", problem)

    def settings(self, tokenizer: Tokenizer) -> dict[str, str]:
        """Returns all settings that decide the content of the shards, as text."""
        return {
            "format": str(FORMAT),
            **{f"sources.{name}": repr(source) for name, source in self.sources.items()},
            "sequence_length": str(self.sequence_length),
            "held_out": repr(self.held_out),
            "tokenizer": tokenizer.sha256,
        }

    def named_sources(self) -> list[tuple[str, Source]]:
        """Returns the sources in reading order. A held-out source is first, so that what repeats it is dropped."""
        return ([(HELD_OUT, self.held_out)] if isinstance(self.held_out, Source) else []) + list(self.sources.items())


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedCorpus:
    """A corpus whose shards are complete.

    Attributes:
        folder: the folder of the shards on this machine.
        tokenizer: the tokenizer that made them.
        manifest: the content of `manifest.json`.
        token_counts: [v], how often each token of the vocabulary occurs in the training rows.
    """

    folder: pathlib.Path
    tokenizer: Tokenizer
    manifest: dict[str, Any]
    token_counts: np.ndarray

    @property
    def shards(self) -> dict[str, list[dict[str, Any]]]:
        """Returns the records of the shards of each split."""
        return self.manifest["shards"]

    @property
    def sha256(self) -> str:
        """Returns a SHA-256 of the manifest, which has the hashes of all other files.

        When the files of the sources were changed last is left out: copies of the same text make the same corpus.
        """
        records = [{key: record[key] for key in record if key != "modified_ns"} for record in self.manifest["files"]]
        return files.json_sha256(self.manifest | {"files": records})


@runtime_checkable
class Engine(Protocol):
    """What reads and packs a corpus: `LocalEngine` or `RayEngine`. The methods are called once each, in this order."""

    def describe_files(self, sources: NamedSources) -> list[dict[str, Any]]:
        """Returns the manifest's record of every file."""
        ...

    def compute_fingerprints(self, sources: NamedSources) -> Iterator[tuple[str, bytes]]:
        """Yields (name of the source, fingerprints of some of its documents) in reading order."""
        ...

    def make_shards(
        self,
        sources: NamedSources,
        split_of: np.ndarray,
        tokenizer: Tokenizer,
        *,
        sequence_length: int,
        folder: pathlib.Path,
    ) -> Iterator[dict[str, Any]]:
        """Makes every shard that does not exist yet, and yields the records of all in any order."""
        ...


def prepare(
    corpus: Corpus, tokenizer: Tokenizer, engine: Engine | None = None, *, compare_sources: bool = True
) -> PreparedCorpus:
    """Makes the shards of a corpus in its folder, unless they exist there.

    Shards in an object store are downloaded, once per machine, or uploaded after they are made.

    Args:
        corpus: what is read, and the folder.
        tokenizer: the student's tokenizer.
        engine: what does the work. None is this machine.
        compare_sources: whether to check that the text is the same as when existing shards were made.

    Raises:
        ValueError: If the folder holds other shards or is among the text, a source changed or cannot be read, or no
            documents are left for a split.
    """
    stored, folder = remote_folder.open_remote_folder(corpus.shard_dir), remote_folder.local_path(corpus.shard_dir)
    sources = corpus.named_sources()
    source_checks.check_shard_dir(folder, sources)
    is_downloaded = stored is not None and stored.download()
    is_new = not is_downloaded and not (folder / "manifest.json").is_file()
    if is_new:
        for _, source in sources:
            source_checks.check_no_files_in(folder, source.files())
        if stored:
            check_remote_owner(stored, "prepare", setting="corpus.shard_dir=ADDRESS")
        with hold_folder(folder, "prepare", setting="corpus.shard_dir=FOLDER"):
            write_marker(folder, "prepare", made_from=corpus.settings(tokenizer))
            _make_shards(corpus, tokenizer, folder, engine or local_engine.LocalEngine())
    manifest = _read_matching_manifest(corpus, tokenizer, folder)
    if compare_sources and not is_new:
        source_checks.check_unchanged(manifest["files"], sources, shard_dir=corpus.shard_dir)
    if stored and not is_downloaded:
        stored.upload()
    path = folder / COUNTS_FILE
    if not path.is_file() or files.sha256(path) != manifest["token_counts"]["sha256"]:
        raise ValueError(f"{path} is missing or damaged: delete {folder} and prepare the corpus again")
    counts = np.array(untrusted.load_array(path, kind="i", axes=1))
    return PreparedCorpus(folder=folder, tokenizer=tokenizer, manifest=manifest, token_counts=counts)


def _make_shards(corpus: Corpus, tokenizer: Tokenizer, folder: pathlib.Path, engine: Engine) -> None:
    """Makes all files of a prepared corpus in `folder`, the manifest last."""
    console.print(f"preparing {', '.join(corpus.sources)} → {folder}", markup=False)
    sources = corpus.named_sources()
    _print_skipped(sources)
    plan: dict[str, Any] = {"settings": corpus.settings(tokenizer), "files": engine.describe_files(sources)}
    _continue_or_clean(folder, plan)
    share = 0.0 if isinstance(corpus.held_out, Source) else corpus.held_out
    names = ", ".join(name for name, _ in sources)
    split_of = splits.assign_splits(engine.compute_fingerprints(sources), share=share, folder=folder, names=names)
    _check_split_sizes(corpus, split_of)
    shards = _pack_documents(corpus, tokenizer, split_of, folder, engine)
    manifest = plan | _summarize(corpus, tokenizer, split_of, shards, folder)
    source_checks.check_unchanged_meanwhile(plan["files"])
    files.write_json(folder / "manifest.json", manifest)
    (folder / "splits.bin").unlink()
    (folder / "plan.json").unlink()
    totals = manifest["totals"]
    console.print(
        f"{totals['documents']:,} documents; dropped: {totals['duplicates']:,} duplicates, {totals['short']:,} short "
        f"and {totals['unknown']:,} mostly unknown pieces\n{totals['rows']:,} rows of {corpus.sequence_length} tokens, "
        f"{totals['real_share']:.2%} of them real tokens; {totals['held_out_rows']:,} rows held out"
    )


def _print_skipped(sources: NamedSources) -> None:
    """Prints how many files and folders of the sources are not read because they are hidden or describe a dataset."""
    for name, source in sources:
        if skipped := source.skipped():
            console.print(
                f"{name}: {len(skipped):,} hidden files or folders, or descriptions of a dataset, are skipped: "
                f"{format_list(skipped, max_items=MAX_SKIPPED_SHOWN)}",
                markup=False,
            )


def _read_matching_manifest(corpus: Corpus, tokenizer: Tokenizer, folder: pathlib.Path) -> dict[str, Any]:
    """Reads the manifest of a folder. Raises ValueError, which lists the differences, if it is of other settings."""
    manifest = read_manifest(folder)
    actual, expected = manifest["settings"], corpus.settings(tokenizer)
    pairs = {key: (actual.get(key), expected.get(key)) for key in sorted(actual | expected)}
    different = {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}
    if different:
        raise ValueError(
            f"{folder} holds other shards; set another corpus.shard_dir, or delete the folder:\n"
            f"{format_differences(different, one='in the folder', other='in this experiment')}"
        )
    return manifest


def _continue_or_clean(folder: pathlib.Path, plan: dict[str, Any]) -> None:
    """Keeps the shards of an earlier start with the same plan, and removes those of another plan."""
    path = folder / "plan.json"
    if path.is_file():
        earlier_plan = untrusted.read_json(path, FormatHeader, max_bytes=MAX_MANIFEST_BYTES)
        check_shard_format(earlier_plan["settings"], path)
        if earlier_plan == plan:
            console.print(f"continuing with {len(list(folder.glob('*-[0-9]*.json')))} shards that exist already")
            return
    for old_file in itertools.chain(*(folder.glob(f"{split}-*") for split in SPLITS)):
        old_file.unlink()
    files.write_json(path, plan)


def _check_split_sizes(corpus: Corpus, split_of: np.ndarray) -> None:
    """Raises ValueError if there is no document to train on, or none that is held out."""
    num_dropped = int(np.count_nonzero(split_of == DROPPED))
    num_train, num_held_out = (int(np.count_nonzero(split_of == SPLITS.index(split))) for split in SPLITS)
    summary = f"{format_count(len(split_of), 'document')} {'was' if len(split_of) == 1 else 'were'} read"
    if num_dropped:
        summary += f", {format_count(num_dropped, 'duplicate')} dropped"
    has_share = not isinstance(corpus.held_out, Source)
    if has_share and num_train + num_held_out == 1:
        raise ValueError(
            f"the corpus is a single document, which cannot be both trained on and held out ({summary}). Add text, or "
            "put a blank line between the documents of a text file, or give corpus.held_out a text of its own"
        )
    if not num_train:
        reason = (
            f"all others are held out by held_out={corpus.held_out!r}; choose a smaller share"
            if has_share
            else "the others are in the held-out text; add other text to corpus.sources"
        )
        raise ValueError(f"nothing to train on: {summary}, and {reason}")
    if not num_held_out:
        reason = (
            f"held_out={corpus.held_out!r} chooses none of them; choose a larger share"
            if has_share
            else "the held-out text has none; add text to it"
        )
        raise ValueError(f"nothing is held out: {summary}, and {reason}")


def _pack_documents(
    corpus: Corpus, tokenizer: Tokenizer, split_of: np.ndarray, folder: pathlib.Path, engine: Engine
) -> list[dict[str, Any]]:
    """Packs all documents that are not dropped. Returns the records of the shards, sorted by name."""
    shards = []
    num_kept = int(np.count_nonzero(split_of != DROPPED))
    with progress_bar("packing documents", total=num_kept) as advance:
        num_packed = 0
        for shard in engine.make_shards(
            corpus.named_sources(), split_of, tokenizer, sequence_length=corpus.sequence_length, folder=folder
        ):
            shards.append(shard)
            num_packed += shard["counts"]["documents"]
            advance(num_packed)
    return sorted(shards, key=lambda shard: shard["name"])


def _summarize(
    corpus: Corpus, tokenizer: Tokenizer, split_of: np.ndarray, shards: list[dict[str, Any]], folder: pathlib.Path
) -> dict[str, Any]:
    """Returns the parts of the manifest that are known after packing, and writes the token counts.

    Raises:
        ValueError: If a split has no rows.
    """
    by_split = {split: [shard for shard in shards if shard["name"].startswith(split)] for split in SPLITS}
    rows = {split: sum(shard["rows"] for shard in by_split[split]) for split in SPLITS}
    for split in SPLITS:
        if not rows[split]:
            counts = sum((collections.Counter(shard["counts"]) for shard in by_split[split]), collections.Counter())
            problem = "nothing to train on" if split == TRAIN else "nothing is held out"
            raise ValueError(
                f"{problem}: of the {format_count(counts['documents'], 'document')} for it, all pieces were dropped: "
                f"{counts['short']:,} are shorter than {MIN_PIECE_TOKENS} tokens and {counts['unknown']:,} have mostly "
                "unknown tokens; add text, or longer text, to the sources of the corpus"
            )
    totals: collections.Counter[str] = collections.Counter(short=0, unknown=0)
    for shard in shards:
        totals.update(shard["counts"])
    return {
        "licenses": {name: source.license() for name, source in corpus.named_sources()},
        "shards": by_split,
        "token_counts": {"sha256": _count_tokens(tokenizer, by_split[TRAIN], folder)},
        "totals": {
            **totals,
            "duplicates": int(np.count_nonzero(split_of == DROPPED)),
            "held_out_rows": rows[HELD_OUT],
            "real_share": totals["tokens"] / (totals["rows"] * corpus.sequence_length),
        },
    }


def _count_tokens(tokenizer: Tokenizer, shards: list[dict[str, Any]], folder: pathlib.Path) -> str:
    """Counts the tokens of the shards, writes the counts and returns the SHA-256 of their file."""
    counts = np.zeros(tokenizer.vocab_size, np.int64)
    for shard in shards:
        tokens = untrusted.load_array(folder / f"{shard['name']}.tokens.npy", kind="u", axes=2)
        counts += np.bincount(tokens.ravel(), minlength=tokenizer.vocab_size)
    path = folder / COUNTS_FILE
    files.save_array(path, counts)
    return files.sha256(path)
