"""The breakdown of an update: every part has its row, and the differences add up to the whole."""

import pytest

from distilbert_jax import experiment_file
from distilbert_jax.__main__ import main
from distilbert_jax.evaluate import parts
from distilbert_jax.hub.smoke import smoke
from tests.conftest import ROOT

PARTS = ["teacher, forward", "student, forward", "losses", "backward", "optimizer", "update"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return smoke(experiment_file.load(ROOT / "experiments" / "quickstart.py"), tmp_path_factory.mktemp("tiny"))


def test_the_parts_add_up(tiny):
    *found, whole = parts.breakdown(tiny, repeats=1)
    assert [part.name for part in (*found, whole)] == PARTS
    assert sum(part.seconds for part in found) == pytest.approx(whole.seconds)
    assert sum(part.flops for part in found) == pytest.approx(whole.flops)
    assert all(part.seconds > 0 for part in found[:2])


def test_without_a_teacher_there_is_none(tmp_path, capsys):
    assert main(["speed", str(ROOT / "experiments" / "adapt.py"), "--smoke", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "teacher, forward" not in said
    assert all(part in said for part in PARTS[1:])
    assert "of the float32 peak" in said
