"""Whoever starts a command gets huge pages where the kernel gives them to those that ask, and the same process."""

import os
import platform
import subprocess
import sys

import pytest

from distilbert_jax import huge_pages
from tests.conftest import ROOT

ASKS = "always [madvise] never\n"


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """Of this setting."""

    def say(setting):
        (tmp_path / "enabled").write_text(setting)
        monkeypatch.setattr(huge_pages, "SETTING", tmp_path / "enabled")
        others = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
        monkeypatch.setattr(os, "environ", others)

    return say


def test_they_are_asked_for_where_that_has_a_use(kernel, monkeypatch, tmp_path):
    kernel(ASKS)
    assert huge_pages.environment() == {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.perturb=1")
    assert huge_pages.environment() == {"GLIBC_TUNABLES": "glibc.malloc.perturb=1:glibc.malloc.hugetlb=1"}
    for setting in ("[always] madvise never\n", "always madvise [never]\n"):
        kernel(setting)
        assert huge_pages.environment() == {}
    monkeypatch.setattr(huge_pages, "SETTING", tmp_path / "no" / "linux")
    assert huge_pages.environment() == {}


@pytest.mark.parametrize("said", ["glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=1"])
def test_whoever_has_said_is_not_overruled(kernel, monkeypatch, said):
    """And so a command starts again once only."""
    kernel(ASKS)
    monkeypatch.setenv("GLIBC_TUNABLES", said)
    monkeypatch.setattr("os.execv", None)
    huge_pages.start_again()


AGAIN = """
import pathlib, sys
from distilbert_jax import huge_pages
print("here", flush=True)
huge_pages.SETTING = pathlib.Path(sys.argv[1])
huge_pages.start_again()
import os
print(os.getpid(), sys.argv[1:], os.environ["GLIBC_TUNABLES"], sys.flags.utf8_mode)
"""


def test_it_is_the_same_process_with_the_same_arguments(kernel):
    kernel(ASKS)
    command = [sys.executable, "-X", "utf8", "-c", AGAIN, str(huge_pages.SETTING), "a b=c"]
    process = subprocess.Popen(command, env=os.environ, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    said = process.communicate()[0].splitlines()
    assert said == ["here", "here", f"{process.pid} {command[5:]} glibc.malloc.hugetlb=1 1"]


PAGES = """
from distilbert_jax import huge_pages
huge_pages.start_again()
import re
large = bytearray(b"1") * (1 << 28)
print(sum(map(int, re.findall(r"AnonHugePages: +(\\d+)", open("/proc/self/smaps").read()))))
"""


def test_the_kernel_gives_them(monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "")
    name, version = platform.libc_ver()
    if name != "glibc" or tuple(map(int, version.split("."))) < (2, 35) or not huge_pages.environment():
        pytest.skip("needs Linux that gives huge pages to those that ask, and glibc 2.35")
    run = lambda: subprocess.run([sys.executable, "-c", PAGES], capture_output=True, text=True, check=True, cwd=ROOT)
    assert int(run().stdout) > 200_000  # KB of 262,144
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0")
    assert int(run().stdout) < 100_000


def test_the_command_line_asks(kernel, monkeypatch):
    """Where it is typed; a program that calls it stays as it is."""
    from distilbert_jax import __main__

    asked = []
    kernel(ASKS)
    monkeypatch.setattr("os.execv", lambda path, arguments: asked.append(arguments))
    assert __main__.main(["report", "/nowhere"]) == 1
    assert not asked
    monkeypatch.setattr(sys, "argv", ["distilbert_jax", "report", "/nowhere"])
    assert __main__.main() == 1
    assert asked == [[sys.executable, *sys.orig_argv[1:]]]
