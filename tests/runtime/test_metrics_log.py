"""The log: each step once, whatever happened in between."""

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
    """Those of TensorBoard, in the order they were written."""
    found = []
    for path in sorted((folder / "tensorboard").iterdir(), key=lambda p: p.stat().st_mtime_ns):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            found.append(event_pb2.Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return found


def test_each_step_stands_once_after_going_back(tmp_path):
    with MetricsLog(tmp_path, start=0) as opened:
        for step in (1, 2, 3, 4):
            opened.write("train", step, {"loss": float(step)})
        opened.write("eval", 4, {"accuracy": 0.5})
    with MetricsLog(tmp_path, start=2) as opened:
        opened.write("train", 3, {"loss": 3.0})
    assert steps(tmp_path) == [("train", 1), ("train", 2), ("train", 3)]


def test_a_line_that_a_crash_cut_is_dropped(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"kind": "train", "step": 1}\n{"kind": "train", "step": 2}\n{"kind": "tr')
    truncate_log(path, 5)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2]


def test_what_is_not_finite_is_null_in_json_and_left_out_of_tensorboard(tmp_path):
    with MetricsLog(tmp_path, start=0) as opened:
        opened.write("train", 1, {"loss": math.nan, "grad_norm": math.inf, "nonfinite_steps": 1.0})
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    assert line == '{"kind": "train", "step": 1, "loss": null, "grad_norm": null, "nonfinite_steps": 1.0}'
    (entry,) = metrics_log.read_log(tmp_path, "train")
    assert math.isnan(entry["loss"])
    assert entry["nonfinite_steps"] == 1.0
    assert [value.tag for event in events(tmp_path) for value in event.summary.value] == ["train/nonfinite_steps"]


def test_tensorboard_is_purged_from_there(tmp_path):
    """Its reader drops what stands at or after the purge step."""
    with MetricsLog(tmp_path, start=0) as opened:
        opened.write("train", 1, {"loss": 1.0})
        opened.write("train", 2, {"loss": 2.0})
    with MetricsLog(tmp_path, start=1) as opened:
        opened.write("train", 2, {"loss": 2.5})
    written = events(tmp_path)
    starts = [event.step for event in written if event.session_log.status == event_pb2.SessionLog.START]
    assert starts == [2]
    assert [event.step for event in written if event.summary.value] == [1, 2, 2]


def test_a_run_that_starts_anew_forgets_everything(tmp_path):
    """Also what it measured at step 0, before there was a checkpoint."""
    for loss in (1.0, 2.0):
        with MetricsLog(tmp_path, start=0) as opened:
            opened.write("eval", 0, {"accuracy": loss})
            opened.write("train", 1, {"loss": loss})
    assert steps(tmp_path) == [("train", 1), ("eval", 0)]
    assert metrics_log.read_log(tmp_path, "train")[0]["loss"] == 2.0
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_a_damaged_line_in_the_middle_is_said(tmp_path, capsys):
    path = tmp_path / "log.jsonl"
    path.write_text('{"kind": "train", "step": 1}\n{"kin\n{"kind": "train", "step": 3}\n')
    truncate_log(path, 5)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 3]
    assert "line 2 is damaged, and dropped" in " ".join(capsys.readouterr().out.split())


def test_a_log_that_vanished_is_no_log(tmp_path):
    with MetricsLog(tmp_path, start=0) as opened:
        opened.write("train", 1, {"loss": 1.0})
        (tmp_path / "log.jsonl").unlink()
        with pytest.raises(ValueError, match="log.jsonl vanished while the run went on"):
            opened.flush()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of files that could not be flushed
def test_a_full_disk_is_an_error_and_no_waiting(small_disk):
    """tensorboardX's own writer would wait for ever for a thread that died."""
    with pytest.raises(OSError, match="No space left"), MetricsLog(small_disk, start=0) as opened:
        for step in range(20_000):
            opened.write("train", step, {"loss": 1.0, "other": 2.0})


def test_torch_is_no_part_of_it(tmp_path):
    """tensorboardX imports it where it is installed: seconds, and hundreds of megabytes."""
    code = (
        "import pathlib, sys; from distilbert_jax.runtime.metrics_log import Board; "
        f"Board(pathlib.Path({str(tmp_path)!r}), start=0).close(); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
