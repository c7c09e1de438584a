"""The log has each step exactly once, no matter how the run was interrupted."""

import json
import math
import struct
import subprocess
import sys

import pytest
from tensorboardX.proto import event_pb2

from distilbert_jax.runtime import metrics_log
from distilbert_jax.runtime.metrics_log import MetricsLog, truncate_log
from tests.conftest import ROOT


def steps(folder):
    return [
        (entry["kind"], entry["step"]) for kind in ("train", "eval") for entry in metrics_log.read_log(folder, kind)
    ]


def events(folder):
    """Returns the events of TensorBoard, in the order in which they were written."""
    written = []
    for path in sorted((folder / "tensorboard").iterdir(), key=lambda p: p.stat().st_mtime_ns):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            written.append(event_pb2.Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return written


def test_each_step_is_logged_once_after_going_back(tmp_path):
    with MetricsLog(tmp_path, start=0) as opened:
        for step in (1, 2, 3, 4):
            opened.write("train", step, {"loss": float(step)})
        opened.write("eval", 4, {"accuracy": 0.5})
    with MetricsLog(tmp_path, start=2) as opened:
        opened.write("train", 3, {"loss": 3.0})
    assert steps(tmp_path) == [("train", 1), ("train", 2), ("train", 3)]


def test_a_line_that_a_crash_cut_is_removed(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"kind": "train", "step": 1}\n{"kind": "train", "step": 2}\n{"kind": "tr')
    truncate_log(path, 5)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2]


def test_a_value_that_is_not_finite_is_null_in_json_and_omitted_from_tensorboard(tmp_path):
    with MetricsLog(tmp_path, start=0) as opened:
        opened.write("train", 1, {"loss": math.nan, "grad_norm": math.inf, "nonfinite_steps": 1.0})
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    assert line == '{"kind": "train", "step": 1, "loss": null, "grad_norm": null, "nonfinite_steps": 1.0}'
    (entry,) = metrics_log.read_log(tmp_path, "train")
    assert math.isnan(entry["loss"])
    assert entry["nonfinite_steps"] == 1.0
    assert [value.tag for event in events(tmp_path) for value in event.summary.value] == ["train/nonfinite_steps"]


def test_tensorboard_is_purged_from_the_step_where_a_run_continues(tmp_path):
    """Its reader drops the events at and after the purge step."""
    with MetricsLog(tmp_path, start=0) as opened:
        opened.write("train", 1, {"loss": 1.0})
        opened.write("train", 2, {"loss": 2.0})
    with MetricsLog(tmp_path, start=1) as opened:
        opened.write("train", 2, {"loss": 2.5})
    written = events(tmp_path)
    starts = [event.step for event in written if event.session_log.status == event_pb2.SessionLog.START]
    assert starts == [2]
    assert [event.step for event in written if event.summary.value] == [1, 2, 2]


def test_a_run_that_starts_again_from_step_0_removes_everything(tmp_path):
    """This includes what it measured at step 0, before its first checkpoint."""
    for loss in (1.0, 2.0):
        with MetricsLog(tmp_path, start=0) as opened:
            opened.write("eval", 0, {"accuracy": loss})
            opened.write("train", 1, {"loss": loss})
    assert steps(tmp_path) == [("train", 1), ("eval", 0)]
    assert metrics_log.read_log(tmp_path, "train")[0]["loss"] == 2.0
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_a_damaged_line_in_the_middle_is_reported(tmp_path, capsys):
    path = tmp_path / "log.jsonl"
    path.write_text('{"kind": "train", "step": 1}\n{"kin\n{"kind": "train", "step": 3}\n')
    truncate_log(path, 5)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 3]
    assert "log.jsonl: line 2 is damaged and was removed." in " ".join(capsys.readouterr().out.split())


def test_a_deleted_log_file_is_an_error(tmp_path):
    with MetricsLog(tmp_path, start=0) as opened:
        opened.write("train", 1, {"loss": 1.0})
        (tmp_path / "log.jsonl").unlink()
        with pytest.raises(ValueError, match="log.jsonl was deleted or moved during the run; do not change"):
            opened.flush()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the files cannot be flushed
def test_a_full_disk_is_an_error_and_does_not_block(small_disk):
    """The writer of tensorboardX would wait forever for a thread that has ended."""
    with pytest.raises(OSError, match="No space left"), MetricsLog(small_disk, start=0) as opened:
        for step in range(20_000):
            opened.write("train", step, {"loss": 1.0, "other": 2.0})


def test_torch_is_not_imported(tmp_path):
    """If it is installed, tensorboardX imports it, which takes seconds and hundreds of megabytes."""
    code = (
        "import pathlib, sys; from distilbert_jax.runtime.metrics_log import TensorBoardWriter; "
        f"TensorBoardWriter(pathlib.Path({str(tmp_path)!r}), start=0).close(); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
