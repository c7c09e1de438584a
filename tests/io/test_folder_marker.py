"""Which folders a command may write to."""

import pytest

from distilbert_jax.io import files, folder_marker
from distilbert_jax.io.folder_marker import check_owner, hold_folder, read_marker, write_marker


def hashes(folder):
    return files.folder_hashes(folder) | {"": sorted(path.name for path in folder.rglob("*"))}


def test_a_folder_that_is_missing_or_empty_may_be_written(tmp_path):
    check_owner(tmp_path / "new", "distill", setting="workdir=FOLDER")
    check_owner(tmp_path, "distill", setting="workdir=FOLDER")
    (tmp_path / files.LOCK).touch()  # left by a process that was killed at once
    check_owner(tmp_path, "distill", setting="workdir=FOLDER")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["notes.txt", "export/keep.txt", ".hidden"])
def test_a_folder_of_the_user_is_refused_and_not_touched(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    before = hashes(tmp_path)
    message = "has files that this program did not make, such as .*nothing was changed.*workdir=FOLDER"
    with pytest.raises(ValueError, match=message), hold_folder(tmp_path, "distill", setting="workdir=FOLDER"):
        pass
    assert hashes(tmp_path) == before


def test_a_command_that_fails_leaves_no_empty_folder(tmp_path):
    for name, made_by in (("new", "distill"), ("kept", "prepare")):
        with pytest.raises(KeyError), hold_folder(tmp_path / name, made_by, setting="workdir=FOLDER"):
            if name == "kept":
                write_marker(tmp_path / name, made_by)
            raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_folder_of_another_command_is_refused(tmp_path):
    write_marker(tmp_path, "prepare")
    with pytest.raises(ValueError, match="was made by `prepare`, so `finetune` does not write to it"):
        check_owner(tmp_path, "finetune", setting="--output-dir FOLDER")


def test_a_file_of_this_name_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        ValueError,
        match=r"not a folder, so nothing can be written to it\. Name a new or an empty folder with --output-dir",
    ):
        check_owner(tmp_path / "file", "finetune", setting="--output-dir FOLDER")


def test_a_folder_keeps_its_marker_and_its_command_may_write_again(tmp_path):
    write_marker(tmp_path / "run", "distill", format=3, made_from={"seed": 0})
    (tmp_path / "run" / "log.jsonl").touch()
    with hold_folder(tmp_path / "run", "distill", setting="workdir=FOLDER"):
        assert read_marker(tmp_path / "run") == {"made_by": "distill", "format": 3, "made_from": {"seed": 0}}
        with (
            pytest.raises(ValueError, match="in use by another process"),
            hold_folder(tmp_path / "run", "distill", setting="workdir=FOLDER"),
        ):
            pass
    assert folder_marker.read_marker(tmp_path) is None
