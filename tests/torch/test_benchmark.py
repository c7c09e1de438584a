"""The benchmarks at their smallest: every side runs and has its row."""

import pathlib
import re
import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="torch is installed on Python 3.11 only")
BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"
SIDES = {
    "Vocabulary losses": ["block by block", "dense"],
    "Update": ["ours", "plain, eager", "gathered, eager"],
    "Inference": [
        *(f"{model}, {side}" for model in ("teacher", "student") for side in ("ours", "eager", "sdpa", "onnx")),
        *(f"teacher / student, {side}" for side in ("ours", "eager", "sdpa", "onnx")),
    ],
    "One pass over STS-B dev": [
        f"{model}, {side}" for model in ("teacher", "student") for side in ("ours, multiples of 8", "sdpa")
    ],
    "Start": ["--help"],
    "Layers": ["one after the other", "a loop", "q, k, v in one product"],
    "prepare: memory": ["1"],
    "prepare": ["ours", "loop", "original"],
    "Fine-tuning on SST-2": [
        f"{side}, {dtype}" for side in ("ours", "transformers") for dtype in ("float32", "bfloat16")
    ],
}


def run(*arguments):
    return subprocess.run([sys.executable, BENCHMARKS / "run.py", *arguments], capture_output=True, text=True)


def test_every_side_has_its_row(tmp_path, prove):
    if prove:
        pytest.importorskip("onnxruntime", reason="pip install -e '.[benchmarks]' brings ONNX Runtime")
    only = () if prove else ("--only", "step")
    done = run("--quick", "--output-dir", tmp_path, *only)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "results.md").read_text()
    found = {}
    for table in text.split("### ")[1:]:
        title = next(known for known in SIDES if table.startswith(known))
        found[title] = re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)[2:]
    assert found == {title: sides for title, sides in SIDES.items() if prove or title == "Update"}
    assert (tmp_path / "results.png").stat().st_size > 1_000


def test_a_missing_package_is_named_before_anything_runs(tmp_path):
    code = (
        "import importlib.util, runpy, sys; find = importlib.util.find_spec; "
        "importlib.util.find_spec = lambda name, *rest: None if 'onnx' in name else find(name, *rest); "
        f"sys.argv = ['run.py', '--quick', '--output-dir', {str(tmp_path)!r}]; "
        f"sys.path.insert(0, {str(BENCHMARKS)!r}); "
        "runpy.run_module('run', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    line = "error: the benchmark inference needs onnx, onnxruntime, which are not installed. Run: pip install 'distil"
    assert done.stderr.startswith(line)
    assert not (tmp_path / "results.md").exists()


def test_a_name_that_is_none(tmp_path):
    done = run("--quick", "--only", "steps", "--output-dir", tmp_path)
    assert done.returncode == 2
    assert "there is no benchmark 'steps' in this set; choose one of vocabulary, step, " in done.stderr
