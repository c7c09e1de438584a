"""Checks what is special to the README. That its commands, code and links work is tested in test_docs.py."""

import re

from tests.conftest import ROOT
from tests.test_docs import blocks

README = ROOT / "README.md"
MAX_LINES = 150


def test_it_begins_with_the_two_commands():
    assert blocks(README, "sh")[0].splitlines() == ["make quickstart", "make test"]


def test_it_is_short():
    assert len(README.read_text().splitlines()) <= MAX_LINES


def test_the_result_has_a_control():
    """A table of results says something only if it also has the student without its teacher."""
    rows = re.findall(r"^\| .*\d %.* \|$", README.read_text(), re.MULTILINE)
    assert any("teacher," in row for row in rows)
    assert any("distilled" in row for row in rows)
    assert any("control" in row for row in rows)
