"""Tests that the measured memory is that of the process itself, and not of the one that started it."""

import json
import subprocess
import sys

import numpy as np
import pytest

from distilbert_jax.devices import host_memory
from tests.conftest import ROOT

SMALL = """
import json, resource
from distilbert_jax.devices import host_memory
before = host_memory.peak_bytes()
large = bytearray(b"1") * 100_000_000
del large
print(json.dumps([before, host_memory.peak_bytes(), 1_024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""


@pytest.mark.skipif(not host_memory.STATUS_FILE.is_file(), reason="needs Linux's /proc")
def test_a_small_process_that_a_large_one_started():
    held = np.ones(300_000_000, np.uint8)
    run = subprocess.run([sys.executable, "-c", SMALL], capture_output=True, check=True, cwd=ROOT)
    before, after, system_figure = json.loads(run.stdout)
    assert before < 90_000_000 < 100_000_000 < after < 190_000_000
    assert system_figure > held.nbytes  # it counts the parent's memory too


def test_where_linux_does_not_say(monkeypatch, tmp_path):
    monkeypatch.setattr(host_memory, "STATUS_FILE", tmp_path / "status")
    assert host_memory.peak_bytes() > 10_000_000
    host_memory.STATUS_FILE.write_text("Name:\tpython\n")
    assert host_memory.peak_bytes() > 10_000_000
