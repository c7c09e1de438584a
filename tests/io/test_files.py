"""Paths that users type, arrays, JSON, permissions, and what is said when files cannot be written."""

import errno
import json
import math
import os
import pathlib
import re
import stat
import tempfile

import numpy as np
import pytest

from distilbert_jax.cli import arguments
from distilbert_jax.cli.main import format_error
from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.data.tasks import registry
from distilbert_jax.hub import load, smoke
from distilbert_jax.io import files, remote_folder
from tests.conftest import tiny_config


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The home folder, in another folder than the current one."""
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


def test_expand_path(home):
    assert files.expand_path("~") == home
    assert files.expand_path("~/a b/c") == home / "a b" / "c"
    assert files.expand_path("~root").is_absolute()
    for path in ("a/~", "", ".", "/x", "a~b", "./a"):
        assert files.expand_path(path) == pathlib.Path(path)
    for path in ("./~", "./~nobody-here"):
        assert files.expand_path(files.expand_path(path)) == pathlib.Path.cwd() / path
    with pytest.raises(ValueError, match="'~nobody-here' is not the home folder of a user .*; write ./~nobody-here/x"):
        files.expand_path("~nobody-here/x")
    pathlib.Path("~draft.txt").touch()
    assert files.expand_path("~draft.txt") == pathlib.Path("~draft.txt")


def test_every_entrance_knows_the_home_folder(home, bert_folder):
    (home / "model").symlink_to(bert_folder)
    assert load.resolve_folder(Pretrained("~/model")) == home / "model"
    assert load.is_local(Pretrained("~/model"))
    assert remote_folder.local_path("~/shards") == home / "shards"  # corpus.shard_dir, workdir, RUN
    assert arguments.fetch_run("~/run") == home / "run"
    assert arguments.parse_local_folder("~/out") == str(home / "out")
    with pytest.raises(ValueError, match=f"the folder {home}/task does not exist"):
        registry.find_task("mine", pathlib.Path("~/task"))


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.uint16).reshape(3, 4),
        np.zeros((0, 32), np.uint8),
        np.arange(5),
        np.arange(12).reshape(3, 4).T,
        np.asfortranarray(np.arange(6).reshape(2, 3))[:, ::2],
    ],
)
def test_an_array_is_written_as_numpy_writes_it(tmp_path, array):
    files.save_array(tmp_path / "a.npy", array)
    np.save(tmp_path / "b.npy", np.ascontiguousarray(array))
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), array)


WRITERS = {
    "array": lambda path: files.save_array(path, np.zeros(2**20, np.uint32)),
    "json": lambda path: files.write_json(path, ["x" * 2**22]),
    "text": lambda path: _write_text(path),
}


def _write_text(path):
    with files.write_atomically(path) as partial:
        partial.write_text("x" * 2**22)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("room", [0, 4_096, 2**20])
def test_a_full_disk_is_called_that_and_leaves_what_was_there(small_disk, writer, room):
    path = small_disk / "it.bin"
    path.write_bytes(b"old")
    free = os.statvfs(small_disk)
    (small_disk / "filler").write_bytes(bytes(max(free.f_bavail * free.f_frsize - room, 0)))
    with pytest.raises(OSError, match="No space left") as caught:
        WRITERS[writer](path)
    assert caught.value.errno == errno.ENOSPC
    assert re.fullmatch(rf"no space left on the disk for {re.escape(str(path))}; free .*", format_error(caught.value))
    assert path.read_bytes() == b"old"
    assert sorted(p.name for p in small_disk.iterdir()) == ["filler", "it.bin"]


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_that_a_library_makes_for_its_owner_only(umask, tmp_path):
    with files.write_atomically(tmp_path / "a") as partial:
        handle, name = tempfile.mkstemp(dir=tmp_path)
        os.close(handle)
        pathlib.Path(name).replace(partial)
    assert mode(tmp_path / "a") == 0o666 & ~umask


def test_all_files_of_a_model(umask, tmp_path, tokenizer):
    smoke.save_tiny_model(tmp_path / "m", tiny_config(num_layers=1), tokenizer=tokenizer, family="bert", seed=0)
    assert {mode(path) for path in (tmp_path / "m").iterdir()} == {0o666 & ~umask}


def test_nothing_stays_after_a_failure(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(KeyError), files.write_atomically(tmp_path / "a") as partial:
        partial.write_text("new")
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def refuse_constant(name):
    raise AssertionError(f"{name} is no JSON")


def test_a_number_that_is_not_finite_is_null(tmp_path):
    content = {"a": math.nan, "b": [1.5, -math.inf, (np.float64("inf"), 2)], "c": {"d": None, "e": "NaN", "f": True}}
    files.write_json(tmp_path / "a.json", content)
    read = json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse_constant)
    assert read == {"a": None, "b": [1.5, None, [None, 2]], "c": {"d": None, "e": "NaN", "f": True}}


def test_folders_that_can_be_written_to(tmp_path):
    files.check_can_write(tmp_path)
    files.check_can_write(tmp_path / "a" / "b", "c.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["file", "file/a", "file/a/b", "link", "link/a"])
def test_a_file_in_the_place_of_a_folder(tmp_path, name):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(
        ValueError, match=f"{name.split('/')[0]} is not a folder, so nothing can be written to .*{name}"
    ):
        files.check_can_write(tmp_path / name)


def test_a_folder_in_the_place_of_a_file(tmp_path):
    (tmp_path / "retention.md").mkdir()
    with pytest.raises(ValueError, match="retention.md is a folder, so no file can be written there"):
        files.check_can_write(tmp_path, "retention.tex", "retention.md")


def test_a_folder_that_is_read_only(tmp_path, monkeypatch):
    def fail(**named):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    with pytest.raises(
        ValueError, match=f"nothing can be written to {tmp_path}/a: Read-only file system in {tmp_path};"
    ):
        files.check_can_write(tmp_path / "a")
