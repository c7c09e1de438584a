"""Files get the permissions that the umask gives, however they are written."""

import os
import pathlib
import stat
import tempfile

import pytest

from distilbert_jax.hub import smoke
from distilbert_jax.io import files
from tests.conftest import tiny_config


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
