"""Shards on disk: complete or absent, the same whichever process made them, with no document in both splits."""

import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from distilbert_jax.data.batches import Shards
from distilbert_jax.data.shards import chunks, local_engine
from distilbert_jax.data.shards.manifest import FORMAT
from distilbert_jax.data.shards.prepare import Corpus, prepare
from distilbert_jax.data.shards.splits import DROPPED, mark_duplicates
from distilbert_jax.data.sources.files import TextFiles
from distilbert_jax.hub.smoke import make_tiny_text
from distilbert_jax.io import files
from tests.conftest import shared


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Some forty chunks of text."""
    monkeypatch.setattr(chunks, "CHUNK_CHARACTERS", 2_000)
    (tmp_path / "a.txt").write_text(make_tiny_text(documents=500, seed=0))
    return Corpus(
        sources={"a": TextFiles(str(tmp_path / "a.txt"))},
        shard_dir=str(tmp_path / "shards"),
        sequence_length=32,
        held_out=0.1,
    )


def pieces(prepared, split):
    """Every packed piece of a split, as a tuple of ids."""
    shards = Shards(prepared.folder, prepared.shards[split])
    content = shards.read(np.arange(len(shards)))
    assert len(shards) == sum(shard["rows"] for shard in prepared.shards[split])
    rows = zip(content["tokens"], content["segment_ids"], strict=True)
    return [tuple(tokens[segments == n].tolist()) for tokens, segments in rows for n in range(1, segments.max() + 1)]


def contents(folder):
    return {path.name: files.sha256(path) for path in pathlib.Path(folder).iterdir() if path.name != ".lock"}


def test_what_it_makes(corpus, tokenizer):
    prepared = prepare(corpus, tokenizer)
    totals = prepared.manifest["totals"]
    assert len(prepared.shards["train"]) > 10
    assert totals["rows"] == sum(shard["rows"] for shards in prepared.shards.values() for shard in shards)
    assert 0.05 < totals["held_out_rows"] / totals["rows"] < 0.15
    assert totals["real_share"] > 0.9
    [file] = prepared.manifest["files"]
    assert (file["source"], file["sha256"]) == ("a", files.sha256(pathlib.Path(file["name"])))
    counts = np.bincount(
        np.concatenate([np.array(p) for p in pieces(prepared, "train")]), minlength=tokenizer.vocab_size
    )
    np.testing.assert_array_equal(prepared.token_counts[5:], counts[5:])
    left_over = [p.name for p in prepared.folder.iterdir() if p.suffix in {".bin", ".partial"} or p.name == "plan.json"]
    assert not left_over


def test_no_document_is_in_both_splits(corpus, tokenizer):
    prepared = prepare(corpus, tokenizer)
    assert not set(pieces(prepared, "train")) & set(pieces(prepared, "held_out"))


def test_duplicates_are_dropped_and_counted(corpus, tokenizer, tmp_path):
    alone = prepare(corpus, tokenizer)
    text = (tmp_path / "a.txt").read_text()
    (tmp_path / "a.txt").write_text(text + "\n\n" + text)
    twice = prepare(dataclasses.replace(corpus, shard_dir=str(tmp_path / "twice")), tokenizer)
    assert twice.manifest["totals"]["duplicates"] == 500
    for split in ("train", "held_out"):
        assert sorted(pieces(alone, split)) == sorted(pieces(twice, split))


def test_files_held_out_by_name_keep_their_documents_to_themselves(corpus, tokenizer, tmp_path):
    documents = (tmp_path / "a.txt").read_text().split("\n\n")
    (tmp_path / "held.txt").write_text("\n\n".join(documents[:40]))
    prepared = prepare(dataclasses.replace(corpus, held_out=TextFiles(str(tmp_path / "held.txt"))), tokenizer)
    assert prepared.manifest["totals"]["duplicates"] == 40
    assert not set(pieces(prepared, "train")) & set(pieces(prepared, "held_out"))


@pytest.mark.parametrize("at_once", [7, 100, 10_000])
def test_duplicates_in_bounded_memory(at_once):
    hashes = np.random.default_rng(0).integers(0, 300, 1_000).astype(np.uint64)
    split_of = np.zeros(1_000, np.uint8)
    mark_duplicates(hashes, split_of, at_once=at_once)
    first = np.unique(hashes, return_index=True)[1]
    np.testing.assert_array_equal(np.flatnonzero(split_of != DROPPED), np.sort(first))


@pytest.mark.parametrize("cores", [1, 3])
def test_workers_cannot_change_the_shards(corpus, tokenizer, tmp_path, monkeypatch, cores):
    prepare(corpus, tokenizer)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    prepare(dataclasses.replace(corpus, shard_dir=str(tmp_path / "again")), tokenizer)
    assert contents(tmp_path / "shards") == contents(tmp_path / "again")


def test_a_second_call_reads_nothing(corpus, tokenizer, tmp_path):
    first = prepare(corpus, tokenizer)
    (tmp_path / "a.txt").unlink()
    assert prepare(corpus, tokenizer).sha256 == first.sha256


KILLED = """
import sys
from distilbert_jax.data.shards import chunks, prepare
from distilbert_jax.data.sources.files import TextFiles
from distilbert_jax.hub.smoke import make_tiny_tokenizer
if __name__ == "__main__":
    chunks.CHUNK_CHARACTERS = 2_000
    source, folder = sys.argv[1:]
    corpus = prepare.Corpus(sources={"a": TextFiles(source)}, shard_dir=folder, sequence_length=32, held_out=0.1)
    prepare.prepare(corpus, make_tiny_tokenizer())
"""


def test_after_a_kill_it_continues_and_never_looks_complete(corpus, tokenizer, tmp_path):
    expected = prepare(corpus, tokenizer)
    (tmp_path / "killed.py").write_text(KILLED)
    folder = tmp_path / "killed"
    environment = os.environ | {"PYTHONPATH": str(pathlib.Path.cwd())}
    process = subprocess.Popen(
        [sys.executable, tmp_path / "killed.py", tmp_path / "a.txt", folder], env=environment, start_new_session=True
    )
    while len(list(folder.glob("train-*.json"))) < 3:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "manifest.json").exists()
    finished = {path: path.stat().st_mtime_ns for path in folder.glob("*-[0-9]*.json")}
    assert finished
    again = prepare(dataclasses.replace(corpus, shard_dir=str(folder)), tokenizer)
    assert contents(expected.folder) == contents(folder)
    assert again.sha256 == expected.sha256
    assert all(path.stat().st_mtime_ns == time for path, time in finished.items())  # not made again


def test_a_start_with_other_settings_begins_clean(corpus, tokenizer, monkeypatch):
    monkeypatch.setattr(local_engine, "write_shard", _fail_after(3, local_engine.write_shard))
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setattr(local_engine, "MIN_CHUNKS_FOR_PROCESSES", 10_000)
    with pytest.raises(RuntimeError, match="as asked"):
        prepare(corpus, tokenizer)
    monkeypatch.undo()
    other = prepare(dataclasses.replace(corpus, sequence_length=48), tokenizer)
    assert all(np.load(path).shape[1] == 48 for path in other.folder.glob("*.tokens.npy"))


def _fail_after(n, function):
    calls = []

    def limited(*args):
        calls.append(args)
        if len(calls) > n:
            raise RuntimeError("as asked")
        return function(*args)

    return limited


def test_shards_of_other_settings_are_refused(corpus, tokenizer, tmp_path):
    prepare(corpus, tokenizer)
    with pytest.raises(
        ValueError, match="holds other shards.*\n  sequence_length: 32 in the folder, 64 in this experiment"
    ):
        prepare(dataclasses.replace(corpus, sequence_length=64), tokenizer)
    other = dataclasses.replace(tokenizer, backend=_with_one_more_word(tokenizer))
    with pytest.raises(ValueError, match="holds other shards.*\n  tokenizer: "):
        prepare(corpus, other)


@pytest.mark.parametrize("name", ["manifest.json", "plan.json"])
def test_a_corpus_of_an_earlier_version_is_refused(corpus, tokenizer, name):
    """Prepared, or half prepared, with the names of format 1."""
    folder = prepare(corpus, tokenizer).folder
    manifest = json.loads((folder / "manifest.json").read_text())
    earlier = {"settings": manifest["settings"] | {"format": "1"}, "files": manifest["files"]}
    if name == "manifest.json":
        earlier |= {key: manifest[key] for key in ("licenses", "shards", "totals")} | {"words": {"sha256": "00"}}
        (folder / "token_counts.npy").rename(folder / "words.npy")
    (folder / "manifest.json").unlink()
    (folder / name).write_text(json.dumps(earlier))
    message = (
        f"{folder / name} was written by an earlier version of distilbert_jax (format 1, this version needs {FORMAT}); "
        f"to prepare the corpus again, delete {folder}, or set another corpus.shard_dir"
    )
    before = contents(folder)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        prepare(corpus, tokenizer)
    assert contents(folder) == before


def _with_one_more_word(tokenizer):
    backend = type(tokenizer.backend).from_str(tokenizer.backend.to_str())
    backend.add_tokens(["elephant"])
    return backend


@pytest.mark.parametrize("damage", ["flipped", "missing", "counts", "manifest"])
def test_damaged_shards(corpus, tokenizer, damage):
    prepared = prepare(corpus, tokenizer)
    name = {"counts": "token_counts.npy", "manifest": "manifest.json"}.get(damage, "train-00003.tokens.npy")
    path = prepared.folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    if damage == "missing":
        path.unlink()
    with pytest.raises(ValueError, match=f"{name}.* is (missing|damaged).*delete .* and prepare the corpus again"):
        again = prepare(corpus, tokenizer)
        Shards(again.folder, again.shards["train"])


def test_bad_corpora(corpus, tokenizer, tmp_path):
    empty = tmp_path / "empty.txt"
    empty.write_text("\n\n")

    def with_source(source, **changes):
        return dataclasses.replace(corpus, sources={"it": TextFiles(str(source))}, **changes)

    with pytest.raises(ValueError, match="no documents in it"):
        prepare(with_source(empty), tokenizer)
    empty.write_text("dog\n\ncat\n\nbird")
    with pytest.raises(ValueError, match="nothing is held out: 3 documents were read, and held_out=0.3 chooses none"):
        prepare(with_source(empty, held_out=0.3), tokenizer)
    with pytest.raises(ValueError, match="nothing to train on: 3 documents were read, and all others are held out"):
        prepare(with_source(empty, held_out=1 - 1e-6), tokenizer)
    message = (
        "nothing to train on: of the 3 documents for it, all pieces were dropped: 3 are shorter than 12 tokens and 0"
    )
    with pytest.raises(ValueError, match=message):
        prepare(with_source(empty, held_out=TextFiles(str(tmp_path / "a.txt"))), tokenizer)
    empty.write_text((tmp_path / "a.txt").read_text())
    message = (
        "nothing to train on: 1,000 documents were read, 500 duplicates dropped, and the others are in the held-out"
    )
    with pytest.raises(ValueError, match=message):
        prepare(with_source(empty, held_out=TextFiles(str(tmp_path / "a.txt"))), tokenizer)
    with pytest.raises(ValueError, match="nothing is held out.*choose a larger share"):
        prepare(with_source(tmp_path / "a.txt", held_out=1e-9), tokenizer)
    with pytest.raises(
        ValueError, match="corpus.held_out must be a number greater than 0 and less than 1 or a Source, not 1.5"
    ):
        with_source(empty, held_out=1.5)
    with pytest.raises(ValueError, match="corpus.sequence_length must be a whole number from 12 to 65,536, not 8"):
        with_source(empty, sequence_length=8)


@pytest.mark.parametrize("held_out", [0.005, 0.5, 0.999])
@pytest.mark.parametrize("copies", [1, 3])
def test_a_single_document_is_refused_whatever_is_held_out(corpus, tokenizer, tmp_path, held_out, copies):
    (tmp_path / "a.txt").write_text("\n\n".join(["The old dog sees a small green bird."] * copies))
    read = "1 document was read" if copies == 1 else "3 documents were read, 2 duplicates dropped"
    message = f"the corpus is a single document, which cannot be both trained on and held out ({read}). Add text"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        prepare(dataclasses.replace(corpus, held_out=held_out), tokenizer)


def test_a_folder_in_use_is_left_alone(corpus, tokenizer):
    with (
        files.lock_folder(pathlib.Path(corpus.shard_dir)),
        pytest.raises(ValueError, match="in use by another process"),
    ):
        prepare(corpus, tokenizer)


def test_real_wikipedia_packs_to_98_per_cent(tokenizer, tmp_path):
    from distilbert_jax.data.tokenizer import tokenizer as tokens

    corpus = Corpus(
        sources={"wikipedia": TextFiles(str(shared("data/corpus/wikipedia_10mb.txt")))},
        shard_dir=str(tmp_path / "shards"),
        sequence_length=128,
    )
    totals = prepare(corpus, tokens.load_tokenizer(shared("data/vocab/bert-base-uncased-hf"))).manifest["totals"]
    assert totals["real_share"] >= 0.98
    assert totals["documents"] > 5_000
    assert json.dumps(totals)
