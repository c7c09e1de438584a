"""Every file in experiments/: its description is what tests/golden/ keeps, it opens as it should, and it runs tiny."""

import ast
import re

import pytest

from distilbert_jax.config import experiment_file
from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.hub import load
from distilbert_jax.hub.smoke import make_smoke_experiment
from distilbert_jax.report import run_report
from distilbert_jax.runtime import metrics_log
from distilbert_jax.train.distill import loop
from tests.conftest import ROOT

FILES = sorted((ROOT / "experiments").glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden(path):
    """A change of a recipe shows here. Where it is meant: python -m tests.test_experiments writes them anew."""
    golden = ROOT / "tests" / "golden" / f"{path.stem}.txt"
    assert experiment_file.describe(experiment_file.load_experiment(path)) == golden.read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_opens_with_what_it_is_its_command_and_what_to_expect(path):
    said = ast.get_docstring(ast.parse(path.read_text()))
    assert re.search(rf"python -m distilbert_jax distill experiments/{path.name}|make {path.stem}", said)
    assert re.search(r"\d+ (minutes|hours)|\w+ hours of", said), "what it costs"
    assert re.search(r"\d\d[.,]\d", said), "the number to expect"
    assert "TODO" not in said


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_runs_tiny(path, tmp_path, capsys, prove):
    """With all its layers in `make prove`: they are what takes long to compile."""
    experiment = experiment_file.load_experiment(path)
    if not prove and experiment.student.layers != "all":
        experiment = experiment_file.apply_overrides(experiment, ["student.layers=(0,1)"])
    experiment = make_smoke_experiment(experiment, tmp_path)
    folder = loop.distill(experiment)
    assert [entry["step"] for entry in metrics_log.read_log(folder, "train")] == [1, 2, 3, 4]
    exported = load.load_pretrained(Pretrained(str(folder / "export")))
    assert experiment.student.family == exported.family.MODEL_TYPE
    if experiment.student.layers != "all":
        assert exported.config.num_layers == len(experiment.student.layers)
    run_report.show_report(folder)
    said = capsys.readouterr().out
    assert "accuracy" in said
    assert ("top-1 agreement" in said) == (experiment.teacher is not None)
    assert (folder / "losses.png").stat().st_size > 10_000


if __name__ == "__main__":
    for file in FILES:
        (ROOT / "tests" / "golden" / f"{file.stem}.txt").write_text(
            experiment_file.describe(experiment_file.load_experiment(file))
        )
