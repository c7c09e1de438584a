"""Result files are strict JSON, and a folder that cannot be written to is found before anything is measured."""

import errno
import json
import math
import os
import tempfile

import numpy as np
import pytest

from distilbert_jax.io import files


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
