"""The breakdown of an update: every part has its row, and the differences add up to the whole."""

import pytest

from distilbert_jax.cli.main import main
from distilbert_jax.performance import step_timing
from distilbert_jax.performance.step_timing import _compute_parts
from tests.conftest import ROOT

FLOPS = {"encoder": {"teacher": 40, "student": 20}, "head": {"teacher": 4, "student": 4}}


def test_the_parts_add_up():
    seconds = {"teacher": 4.0, "student": 2.0, "value": 7.0, "gradient": 12.0, "step": 13.0}
    *found, whole = _compute_parts(seconds, FLOPS, step_flops=40 + 4 + 3 * (20 + 4))
    assert [(part.name, part.seconds, part.flops) for part in found] == [
        ("teacher, forward", 4.0, 40),
        ("student, forward", 2.0, 20),
        ("losses", 1.0, 8),
        ("backward", 5.0, 48),
        ("optimizer", 1.0, 0),
    ]
    assert sum(part.seconds for part in found) == whole.seconds
    assert sum(part.flops for part in found) == whole.flops


def test_a_share_above_the_peak_is_explained(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(step_timing, "peak_flops", lambda dtype, **how: 1.0)
    assert main(["speed", str(ROOT / "experiments" / "adapt.py"), "--smoke", str(tmp_path)]) == 0
    assert "full step: a share above 100 % means that the peak was measured on busy cores" in capsys.readouterr().out


@pytest.mark.parametrize("name, taught", [("quickstart", True), ("adapt", False)])
def test_the_command(name, taught, tmp_path, capsys, prove):
    if taught and not prove:
        pytest.skip("in `make prove`; one without a teacher runs here")
    assert main(["speed", str(ROOT / "experiments" / f"{name}.py"), "--smoke", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert ("teacher, forward" in said) == taught
    for part in ("student, forward", "losses", "backward", "optimizer", "full step", "of the float32 peak"):
        assert part in said
