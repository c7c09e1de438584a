"""A disk that lies, fills, vanishes or may not be written: said in one line, and nothing that was good is lost."""

import errno
import json
import os
import pathlib
import re
import shutil
import subprocess
import time

import pytest

from distilbert_jax.io import files
from distilbert_jax.runtime.checkpoint import Checkpoints
from tests.conftest import ROOT
from tests.helpers.batches import assert_same
from tests.reliability import harness
from tests.runtime.test_checkpoint import save, state

QUICKSTART = str(ROOT / "experiments" / "quickstart.py")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A folder with the checkpoints 1 and 2. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("two")
    checkpoints = Checkpoints(folder, keep=2)
    save(checkpoints, 1, 2)
    checkpoints.close()
    return folder


def flipped(path: pathlib.Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def faults(path: pathlib.Path, *, offsets: int):
    """(name, what does it) of everything that is done to a file."""
    size = path.stat().st_size
    places = sorted({(size - 1) * i // max(offsets - 1, 1) for i in range(offsets)}) if size else []
    for at in places:
        yield f"byte {at} flipped", lambda file, at=at: flipped(file, at)
    if size:
        yield "a byte cut", lambda file: file.write_bytes(file.read_bytes()[:-1])
    yield "missing", lambda file: file.unlink()


def restored(folder):
    checkpoints = Checkpoints(folder, keep=2)
    try:
        return checkpoints.restore(state(0))
    finally:
        checkpoints.close()


def test_any_damage_to_any_file_costs_one_checkpoint(two, tmp_path, prove, figures, capsys):
    """The one before is used, bit by bit. Sums that lack no more than their last line break still say the same."""
    victims = [path for path in sorted(two.rglob("*")) if path.is_file() and path.relative_to(two).parts[0][0] == "2"]
    assert len(victims) > 5
    done = 0
    for victim in victims:
        for name, spoil in faults(victim, offsets=16 if prove else 1):
            folder = tmp_path / str(done)
            shutil.copytree(two, folder)
            spoil(folder / victim.relative_to(two))
            sums = folder / "2.sha256"
            same = victim.suffix == ".sha256" and sums.exists() and _json(sums) == _json(two / "2.sha256")
            got, step = restored(folder)
            said = " ".join(capsys.readouterr().out.split())
            assert step == (2 if same else 1), (victim, name)
            assert_same(got, state(step))
            assert same or ("is damaged or incomplete" in said and "renamed to 2.damaged" in said), (victim, name)
            shutil.rmtree(folder)
            done += 1
    figures("test_any_damage_to_any_file_costs_one_checkpoint", f"{done} faults in {len(victims)} files, all found")


def _json(path):
    try:
        return json.loads(path.read_text())
    except ValueError:
        return None


def _empty(step):
    shutil.rmtree(step)
    step.mkdir()


def _a_file(step):
    shutil.rmtree(step)
    step.write_text("")


def _no_sums_at_all(step):
    step.with_name("2.sha256").write_text("null")


@pytest.mark.parametrize("spoil", [_empty, _a_file, _no_sums_at_all])
def test_a_checkpoint_that_is_none(two, tmp_path, capsys, spoil):
    folder = shutil.copytree(two, tmp_path / "copy")
    spoil(folder / "2")
    assert restored(folder)[1] == 1
    assert "renamed to 2.damaged" in " ".join(capsys.readouterr().out.split())


def test_a_checkpoint_that_cannot_be_read(two, tmp_path, monkeypatch, capsys):
    """As of a bad sector: the system's own words are said."""
    folder = shutil.copytree(two, tmp_path / "copy")
    sha256 = files.sha256

    def of_a_bad_disk(path):
        if path.relative_to(folder).parts[0] == "2":
            raise OSError(errno.EIO, "Input/output error", str(path))
        return sha256(path)

    monkeypatch.setattr(files, "sha256", of_a_bad_disk)
    assert restored(folder)[1] == 1
    assert "cannot be read: Input/output error" in " ".join(capsys.readouterr().out.split())


def test_all_checkpoints_damaged_is_no_reason_to_start_over(two, tmp_path, capsys):
    """However often the command is given, until somebody decides."""
    folder = shutil.copytree(two, tmp_path / "copy")
    for step in ("1", "2"):
        next((folder / step).rglob("manifest.ocdbt")).unlink()
    for _ in range(2):
        with pytest.raises(
            ValueError, match=r"all checkpoints in .* are damaged \(1.damaged, 2.damaged\).*starts again from step 0"
        ):
            restored(folder)
    shutil.copytree(two / "1", folder / "1")  # a copy that somebody kept
    shutil.copy(two / "1.sha256", folder)
    assert restored(folder)[1] == 1
    shutil.rmtree(folder)
    assert restored(folder) is None


def test_a_first_checkpoint_that_a_kill_left_unfinished_is_no_damage(two, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(two / "1", folder / "1")
    assert restored(folder) is None
    assert "its hash file was never written" in " ".join(capsys.readouterr().out.split())


def test_an_old_checkpoint_half_removed_is_removed_by_the_next_save(two, tmp_path, capsys):
    """A kill in the removal leaves its sums, and no noise."""
    folder = shutil.copytree(two, tmp_path / "copy")
    next((folder / "1").rglob("manifest.ocdbt")).unlink()
    checkpoints = Checkpoints(folder, keep=2)
    assert checkpoints.restore(state(0))[1] == 2
    save(checkpoints, 3, 4)
    checkpoints.close()
    assert sorted(path.name for path in folder.iterdir()) == ["3", "3.sha256", "4", "4.sha256"]
    assert "whole" not in capsys.readouterr().out


def test_an_old_checkpoint_that_a_kill_left_after_the_last_save_is_removed_by_the_next_start(two, tmp_path):
    folder = shutil.copytree(two, tmp_path / "copy")
    checkpoints = Checkpoints(folder, keep=1)
    assert checkpoints.restore(state(0))[1] == 2
    checkpoints.close()
    assert sorted(path.name for path in folder.iterdir()) == ["2", "2.sha256"]


def test_what_the_sums_could_not_be_written_for_is_raised_by_the_next_save(tmp_path, monkeypatch):
    """The thread's errors are nobody else's."""
    checkpoints = Checkpoints(tmp_path, keep=2)

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(files, "write_json", full)
        checkpoints.save(state(1), step=1)
        with pytest.raises(OSError, match="No space left"):
            checkpoints.save(state(2), step=2)
    checkpoints.close()


@pytest.mark.filterwarnings("ignore:coroutine")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_disk_that_becomes_read_only(small_disk, tmp_path):
    """The save says so, what is there can be read, and the command says it in a line."""
    checkpoints = Checkpoints(small_disk / "checkpoints", keep=2)
    save(checkpoints, 1)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    try:
        with pytest.raises(OSError, match="Read-only file system"):
            save(checkpoints, 2)
        assert checkpoints.restore(state(0))[1] == 1
        said = harness.fails(["distill", QUICKSTART, "--smoke", str(tmp_path / "smoke"), f"workdir={small_disk}/run"])
        assert "is on a read-only disk; make it writable" in said
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    save(checkpoints, 2)
    assert checkpoints.restore(state(0))[1] == 2
    checkpoints.close()


def test_a_folder_that_vanishes_ends_the_run(tmp_path, prove, figures):
    """Its checkpoints, or all of it: one line, status 1, and no waiting."""
    cases = ("run", "run/checkpoints") if prove else ("run",)
    for case in cases:
        home = tmp_path / case.replace("/", "-")
        process = harness.start(
            [
                *("distill", QUICKSTART, "--smoke", str(home), "steps=1000000", "checkpoint_every=20"),
                *("eval_every=1000000", "student.layers=(0,1)"),
            ]
        )
        while harness.newest(home)[1] < 20:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.01)
        (home / case).rename(home / "gone")
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 1, said
        assert "Traceback" not in said
        assert re.search(r"error: .*(was deleted or moved during the run|No such file or directory)", said), said
    figures("test_a_folder_that_vanishes_ends_the_run", f"{len(cases)} folders renamed under a run")


def starved(command: list[str], disk: pathlib.Path, *, rooms: tuple[int, ...]) -> list[str]:
    """What the command says with so many KB free, one start after the other, as long as that is too little; then it
    runs with all the room.
    """
    said = []
    for room in rooms:
        free = os.statvfs(disk)
        (disk / "filler").write_bytes(bytes(max(free.f_bavail * free.f_frsize - room * 1024, 0)))
        error = harness.error_of(command)
        (disk / "filler").unlink()
        if error is None:
            break
        assert "no space left on the disk for" in error, error
        said.append(error)
    assert said
    harness.run(command)
    return said


def test_a_full_disk_costs_nothing_but_time(small_disk, tmp_path, prove, figures, distilbert_folder):
    """Whatever it was that did not fit: the same models, results and losses in the end."""
    model, task = (
        harness.learner(tmp_path / "learner", distilbert_folder),
        harness.colors(tmp_path / "colors", train=80),
    )

    def finetune(into):
        return [
            *(
                "finetune",
                str(model),
                "--task",
                f"colors={task}",
                "--output-dir",
                str(into),
                "epochs=2",
                "batch_size=8",
            ),
            *("max_length=16", "optimizer.learning_rate=2e-3"),
        ]

    said = starved(finetune(small_disk / "tasks"), small_disk, rooms=(4, 24, 60, 120, 200) if prove else (60,))
    harness.run(finetune(tmp_path / "tasks"))
    whole, full = tmp_path / "tasks" / "colors", small_disk / "tasks" / "colors"
    harness.same_files(whole, full, "seed?.json", "seed?/per_example.json", "seed?/model/*")
    harness.same_log(whole / "seed0", full / "seed0", steps={"train": [1, 10, 20], "eval": [10, 20]})
    if prove:
        shutil.rmtree(small_disk / "tasks")

        def distill(home):
            return [
                *("distill", QUICKSTART, "--smoke", str(tmp_path / "smoke"), f"workdir={home}", "steps=40"),
                *("checkpoint_every=10", "eval_every=20", "student.layers=(0,1)"),
            ]

        said += starved(distill(small_disk / "run"), small_disk, rooms=(0, 8, 40, 100, 200, 400, 560))
        harness.run(distill(tmp_path / "run"))
        whole, full = tmp_path / "run", small_disk / "run"
        harness.same_log(whole, full, steps={"train": list(range(1, 41)), "eval": [0, 20, 40]})
        harness.same_checkpoints(whole / "checkpoints", full / "checkpoints")
        harness.same_files(whole / "export", full / "export", "model.safetensors")
    assert len(said) >= (8 if prove else 1)
    where = sorted({re.sub(r".*for (\S+);.*", r"\1", line).rsplit("/", 1)[-1] for line in said})
    figures("test_a_full_disk_costs_nothing_but_time", f"{len(said)} full disks; what did not fit: {', '.join(where)}")
