"""Which changes make a run another run, and which do not."""

import pytest

from distilbert_jax.runtime import run_folder

BEFORE = "seed: 0\nsteps: 8\nkeep: 2\nkeep_all: 1\nsha256.start: aa\nsha256.corpus: bb\n"


def difference(*changes, without=()):
    lines = [line for line in BEFORE.splitlines(keepends=True) if not line.startswith(without)]
    now = "".join(lines)
    for old, new in changes:
        assert now.count(old) == 1
        now = now.replace(old, new)
    return run_folder.format_difference(BEFORE, now, resumable=("keep",))


def test_the_lines_that_differ_are_shown():
    assert difference() == ""
    assert difference(("seed: 0", "seed: 1")) == "  before  seed: 0\n  now     seed: 1"
    assert difference(("start: aa", "start: cc")) == "  before  sha256.start: aa\n  now     sha256.start: cc"
    assert difference(without=("steps",)) == "  before  steps: 8"


def test_a_resumable_field_may_change_and_one_that_begins_like_it_may_not():
    assert difference(("keep: 2", "keep: 3")) == ""
    assert "keep_all: 2" in difference(("keep_all: 1", "keep_all: 2"))


def test_hashes_are_compared_only_if_the_files_were_read():
    assert difference(without=("sha256.",)) == ""
    assert difference(("seed: 0", "seed: 1"), without=("sha256.",)) == "  before  seed: 0\n  now     seed: 1"
    assert difference(without=("sha256.start",)) == "  before  sha256.start: aa"


def test_a_folder_can_be_claimed_unless_it_has_checkpoints_of_another_run(tmp_path):
    identities = tmp_path / run_folder.EXPERIMENT_FILE
    for identity in ("seed: 0\n", "seed: 1\n"):
        run_folder.claim_run_folder(tmp_path, identity)
        assert identities.read_text() == identity
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "3.sha256").touch()
    run_folder.claim_run_folder(tmp_path, "seed: 1\nkeep_checkpoints: 5\n")
    with pytest.raises(ValueError, match="holds the run of another experiment.*\n  before  seed: 1\n  now     seed: 2"):
        run_folder.claim_run_folder(tmp_path, "seed: 2\nkeep_checkpoints: 5\n")
    assert identities.read_text() == "seed: 1\nkeep_checkpoints: 5\n"
