"""Shards are used only for the text that they were made from, and they never lie among it."""

import dataclasses
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from distilbert_jax.data.shards import local_engine, source_checks
from distilbert_jax.data.shards.prepare import Corpus, prepare
from distilbert_jax.data.sources.base import Source
from distilbert_jax.data.sources.files import TextFiles
from distilbert_jax.data.sources.hub import HubDataset
from distilbert_jax.hub.smoke import make_tiny_text
from distilbert_jax.io import files


@pytest.fixture
def texts(tmp_path):
    """A folder of three files."""
    (tmp_path / "texts" / "deep").mkdir(parents=True)
    for seed, name in enumerate(("a.txt", "b.txt", "deep/c.md")):
        (tmp_path / "texts" / name).write_text(make_tiny_text(documents=40, seed=seed))
    return tmp_path / "texts"


@pytest.fixture
def corpus(tmp_path, texts):
    return Corpus(
        sources={"mine": TextFiles(str(texts))}, shard_dir=str(tmp_path / "shards"), sequence_length=32, held_out=0.2
    )


def changes(corpus, tokenizer):
    """What `prepare` says about the text, by kind."""
    with pytest.raises(ValueError, match="the text is not the one that the shards in .* were made from:") as caught:
        prepare(corpus, tokenizer)
    message = str(caught.value)
    assert f"run `rm -r {corpus.shard_dir}`, and then run the same command again" in message
    return re.findall(r"^  (\w+)  (.*)$", message, re.MULTILINE)


def test_changed_added_and_removed_files_are_named(corpus, texts, tokenizer):
    first = prepare(corpus, tokenizer)
    assert prepare(corpus, tokenizer).sha256 == first.sha256
    content = (texts / "a.txt").read_text()
    (texts / "a.txt").write_text(content.replace("dog", "cat"))  # the same size
    assert changes(corpus, tokenizer) == [("changed", f"{texts}/a.txt")]
    (texts / "b.txt").unlink()
    (texts / "d.jsonl").write_text("")
    assert changes(corpus, tokenizer) == [
        ("changed", f"{texts}/a.txt"),
        ("added", f"{texts}/d.jsonl"),
        ("removed", f"{texts}/b.txt"),
    ]
    shutil.rmtree(corpus.shard_dir)
    assert prepare(corpus, tokenizer).sha256 != first.sha256  # as the message says


def test_shards_can_be_used_without_a_comparison(corpus, texts, tokenizer):
    """As `replay` does, which needs the shards of a run whatever became of the text."""
    first = prepare(corpus, tokenizer)
    (texts / "a.txt").write_text("other")
    assert prepare(corpus, tokenizer, compare_sources=False).sha256 == first.sha256


def test_the_command_of_the_message_makes_the_shards_again(corpus, texts, tokenizer, tmp_path):
    corpus = dataclasses.replace(corpus, shard_dir=str(tmp_path / "my student's shards"))
    prepare(corpus, tokenizer)
    (texts / "a.txt").write_text(make_tiny_text(documents=10, seed=9))
    with pytest.raises(ValueError, match="rm -r") as caught:
        prepare(corpus, tokenizer)
    subprocess.run(re.search("`(.*)`", str(caught.value))[1], shell=True, check=True)
    assert prepare(corpus, tokenizer).manifest["totals"]["documents"] == 90


def test_only_content_counts(corpus, texts, tokenizer, monkeypatch):
    """Not the time of a file. A file is read only if its time is another one."""
    first = prepare(corpus, tokenizer)
    os.utime(texts / "a.txt", (1, 1))
    hashed = []
    sha256 = files.sha256
    monkeypatch.setattr(files, "sha256", lambda path: hashed.append(path) or sha256(path))
    assert prepare(corpus, tokenizer).sha256 == first.sha256
    assert [path for path in hashed if path.is_relative_to(texts)] == [texts / "a.txt"]
    shutil.rmtree(corpus.shard_dir)
    assert prepare(corpus, tokenizer).sha256 == first.sha256  # made again from a copy, they belong to the same runs


def test_a_held_out_file_that_changed(corpus, texts, tokenizer, tmp_path):
    (tmp_path / "held.txt").write_text(make_tiny_text(documents=20, seed=7))
    corpus = dataclasses.replace(corpus, held_out=TextFiles(str(tmp_path / "held.txt")))
    prepare(corpus, tokenizer)
    (tmp_path / "held.txt").write_text(make_tiny_text(documents=20, seed=8))
    assert changes(corpus, tokenizer) == [("changed", f"{tmp_path}/held.txt")]


def test_files_that_a_glob_finds_later(corpus, texts, tokenizer):
    corpus = dataclasses.replace(corpus, sources={"mine": TextFiles((f"{texts}/*.txt", f"{texts}/deep/c.md"))})
    prepare(corpus, tokenizer)
    (texts / "c.txt").write_text("new")
    (texts / "deep" / "c.md").unlink()
    assert changes(corpus, tokenizer) == [("added", f"{texts}/c.txt"), ("removed", f"{texts}/deep/c.md")]


@pytest.mark.parametrize("left", ["no folder", "an empty folder"])
def test_text_that_is_not_here_is_not_compared(corpus, texts, tokenizer, capsys, left):
    """As after the shards were made on another machine. A line says so."""
    first = prepare(corpus, tokenizer)
    shutil.rmtree(texts)
    if left == "an empty folder":
        texts.mkdir()
    capsys.readouterr()
    assert prepare(corpus, tokenizer).sha256 == first.sha256
    assert (
        capsys.readouterr().out.count("The text of the source 'mine' is not on this machine, so it was not compared")
        == 1
    )


def test_a_folder_with_other_files_only_is_not_absent(corpus, texts, tokenizer):
    prepare(corpus, tokenizer)
    for path in ("a.txt", "b.txt", "deep/c.md"):
        (texts / path).unlink()
    (texts / "other.txt").write_text("something else")
    assert ("added", f"{texts}/other.txt") in changes(corpus, tokenizer)


def test_the_same_text_in_another_home(corpus, texts, tokenizer, tmp_path, monkeypatch):
    for home in ("one", "two"):
        shutil.copytree(texts, tmp_path / home / "texts")
    corpus = dataclasses.replace(corpus, sources={"mine": TextFiles("~/texts")})
    monkeypatch.setenv("HOME", str(tmp_path / "one"))
    first = prepare(corpus, tokenizer)
    monkeypatch.setenv("HOME", str(tmp_path / "two"))
    assert prepare(corpus, tokenizer).sha256 == first.sha256
    (tmp_path / "two" / "texts" / "a.txt").write_text("other")
    assert ("added", f"{tmp_path}/two/texts/a.txt") in changes(corpus, tokenizer)


@dataclasses.dataclass(frozen=True)
class Downloaded(Source):
    """A source that has to ask a server which files it has."""

    folder: str

    def files(self):
        return sorted(pathlib.Path(self.folder).rglob("*.txt"))

    def read(self, path):
        yield from path.read_text().split("\n\n")


def test_a_source_that_must_not_be_asked(corpus, texts, tokenizer, capsys, monkeypatch):
    """Its files are compared where they are, as in a cache, and a missing one is no change."""
    corpus = dataclasses.replace(corpus, sources={"hub": Downloaded(str(texts))})
    first = prepare(corpus, tokenizer)
    monkeypatch.setattr(Downloaded, "files", None)
    (texts / "b.txt").unlink()
    assert prepare(corpus, tokenizer).sha256 == first.sha256
    (texts / "a.txt").write_text("other")
    assert changes(corpus, tokenizer) == [("changed", f"{texts}/a.txt")]
    (texts / "a.txt").unlink()
    capsys.readouterr()
    prepare(corpus, tokenizer)
    assert "The text of the source 'hub' is not on this machine" in capsys.readouterr().out


def test_a_dataset_of_the_hub_is_not_downloaded_to_compare(texts):
    assert HubDataset("owner/name").local_files() is None
    (texts / "data").mkdir()
    (texts / "data" / "train-0.txt").write_text("x")
    assert HubDataset(str(texts)).local_files() == [texts / "data" / "train-0.txt"]


def test_text_that_changes_while_shards_are_made(corpus, texts, tokenizer, monkeypatch):
    save_shard = local_engine.save_shard

    def change_text(*args):
        (texts / "b.txt").write_text("other")
        return save_shard(*args)

    monkeypatch.setattr(local_engine, "save_shard", change_text)
    with pytest.raises(ValueError, match="the text changed while the shards were made:\n  changed  .*b.txt\nRun the"):
        prepare(corpus, tokenizer)
    assert not (pathlib.Path(corpus.shard_dir) / "manifest.json").exists()
    monkeypatch.undo()
    prepare(corpus, tokenizer)


def test_many_changes_are_counted(texts, tokenizer, corpus):
    prepare(corpus, tokenizer)
    for number in range(30):
        (texts / f"new{number:02d}.txt").write_text("x")
    assert changes(corpus, tokenizer)[-1] == ("added", f"and {30 - source_checks.MAX_LISTED_FILES} more")


def refused(corpus, tokenizer, message):
    """Checks that `prepare` refuses and that nothing is written."""
    root = pathlib.Path(next(iter(corpus.sources.values())).paths).parent
    before = sorted(root.rglob("*"))
    with pytest.raises(ValueError, match=message):
        prepare(corpus, tokenizer)
    assert sorted(root.rglob("*")) == before


def test_shards_among_the_text_are_refused(corpus, texts, tokenizer, tmp_path, monkeypatch):
    def at(shard_dir, source=str(texts)):
        return dataclasses.replace(corpus, shard_dir=str(shard_dir), sources={"mine": TextFiles(source)})

    refused(at(texts), tokenizer, "corpus.shard_dir=.*texts is the folder .*texts of the source 'mine'")
    for inside in (texts / "shards", texts / "deep", texts / "deep" / ".." / "x"):
        refused(at(inside), tokenizer, "is inside the folder .*texts of the source 'mine', so the shards would be read")
    refused(at(tmp_path), tokenizer, "contains the folder .*texts of the source 'mine'; give the shards a folder of")
    (tmp_path / "link").symlink_to(texts)
    refused(at(tmp_path / "link" / "shards"), tokenizer, "is inside the folder")
    refused(at(texts / "shards", f"{texts}/**/*.md"), tokenizer, "is inside the folder")
    refused(at(texts, f"{texts}/a.txt"), tokenizer, "contains the text .*a.txt; give the shards a folder of their own")
    monkeypatch.chdir(texts)
    refused(at("shards", "."), tokenizer, "corpus.shard_dir=shards is inside the folder . of the source 'mine'")
    held_out = dataclasses.replace(at(texts / "x", f"{texts}/a.txt"), held_out=TextFiles(str(texts / "deep")))
    refused(dataclasses.replace(held_out, shard_dir=str(texts / "deep")), tokenizer, "of the source 'held_out'")
    assert prepare(at(texts / "x", f"{texts}/*.txt"), tokenizer)  # which no search would find
