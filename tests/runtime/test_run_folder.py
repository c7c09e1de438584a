"""Which changes make a run another run, and which do not."""

import dataclasses

import pytest

from distilbert_jax.io import folder_marker, untrusted
from distilbert_jax.runtime import run_folder
from distilbert_jax.runtime.run_folder import RunIdentity

BEFORE = RunIdentity(
    config={"seed": 0, "steps": 8, "keep_checkpoints": 2, "keep_checkpoints_all": 1},
    sha256={"start": "aa", "corpus": "bb"},
    code={"mine.py": "cc"},
)


@pytest.fixture
def folder(tmp_path):
    """The folder of a run that has logged a step."""
    run_folder.claim_run_folder(tmp_path, BEFORE)
    (tmp_path / "log.jsonl").write_text("{}\n")
    return tmp_path


def check(folder, *, may_change_code=False, **changes):
    """Checks that a run with some changed parts may continue in a folder."""
    run_folder.check_run_folder(folder, dataclasses.replace(BEFORE, **changes), may_change_code=may_change_code)


def test_the_fields_that_differ_are_shown(folder):
    check(folder)
    with pytest.raises(ValueError, match=r"holds the run of another experiment.*\n  seed: 0 before, 1 now$"):
        check(folder, config=BEFORE.config | {"seed": 1})
    with pytest.raises(ValueError, match=r"it read have changed since:\n  sha256\.start: aa before, cc now$"):
        check(folder, sha256=BEFORE.sha256 | {"start": "cc"})
    with pytest.raises(ValueError, match=r"\n  steps: 8 before, not set now$"):
        check(folder, config={name: value for name, value in BEFORE.config.items() if name != "steps"})
    with pytest.raises(ValueError, match=r"\n  sha256\.start: aa before, not set now$"):
        check(folder, sha256={"corpus": "bb"})


def test_a_resumable_field_may_change_and_one_that_begins_like_it_may_not(folder):
    check(folder, config=BEFORE.config | {"keep_checkpoints": 3})
    with pytest.raises(ValueError, match="keep_checkpoints_all: 1 before, 2 now"):
        check(folder, config=BEFORE.config | {"keep_checkpoints_all": 2})


def test_hashes_are_compared_only_if_the_files_were_read(folder):
    check(folder, sha256=None)
    with pytest.raises(ValueError, match="seed: 0 before, 1 now"):
        check(folder, sha256=None, config=BEFORE.config | {"seed": 1})


@pytest.mark.parametrize("code", [{"mine.py": "dd"}, {}, {"mine.py": "cc", "helper.py": "ee"}])
def test_changed_code_is_refused_unless_it_is_accepted(folder, code):
    name = "helper.py" if len(code) == 2 else "mine.py"
    if code:
        with pytest.raises(ValueError, match=rf"the code of the experiment has changed.*: {name}\. .*--changed-code"):
            check(folder, code=code)
    check(folder, code=code, may_change_code=True)


def test_an_experiment_that_no_file_made_has_no_code_to_compare(folder):
    check(folder, code=None)


def test_another_version_of_a_package_is_reported_and_not_refused(folder, capsys):
    marker = folder_marker.read_marker(folder)
    marker["made_from"]["versions"]["jax"] = "0.0.1"
    folder_marker.write_marker(folder, "distill", format=marker["format"], made_from=marker["made_from"])
    check(folder)
    assert "began with jax 0.0.1; this is jax" in " ".join(capsys.readouterr().out.split())


def test_a_run_that_has_logged_nothing_gives_its_folder_up(tmp_path):
    run_folder.claim_run_folder(tmp_path, BEFORE)
    (tmp_path / "log.jsonl").touch()
    check(tmp_path, config=BEFORE.config | {"seed": 1})


@pytest.mark.parametrize("left", ["log.jsonl", "checkpoints/3.sha256"])
def test_a_run_that_was_killed_before_its_first_checkpoint_keeps_its_folder(tmp_path, left):
    run_folder.claim_run_folder(tmp_path, BEFORE)
    (tmp_path / left).parent.mkdir(exist_ok=True)
    (tmp_path / left).write_text("{}\n")
    with pytest.raises(ValueError, match="holds the run of another experiment"):
        check(tmp_path, config=BEFORE.config | {"seed": 1})


def test_a_folder_of_another_format_and_a_folder_of_another_command_are_no_runs(folder):
    marker = folder_marker.read_marker(folder)
    folder_marker.write_marker(folder, "distill", format=1, made_from=marker["made_from"])
    with pytest.raises(ValueError, match=r"earlier version of distilbert_jax \(format 1, this version needs"):
        run_folder.read_identity(folder)
    (folder / folder_marker.MARKER_FILE).unlink()
    with pytest.raises(ValueError, match=r"earlier version of distilbert_jax \(format not stated"):
        run_folder.read_identity(folder)
    folder_marker.write_marker(folder, "prepare")
    with pytest.raises(ValueError, match="made by `prepare`: it is not the folder of a run of `distill`"):
        run_folder.read_identity(folder)


def test_a_damaged_marker_is_refused(folder):
    (folder / folder_marker.MARKER_FILE).write_text('{"made_by": "distill", "format": 3, "made_from": {}}')
    with pytest.raises(ValueError, match=folder_marker.MARKER_FILE):
        run_folder.read_identity(folder)
    (folder / folder_marker.MARKER_FILE).write_text("{")
    with pytest.raises(ValueError, match=folder_marker.MARKER_FILE):
        untrusted.read_json(folder / folder_marker.MARKER_FILE, dict)
