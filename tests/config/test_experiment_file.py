"""Tests that every mistake in an experiment file is one error with the file and the line."""

import re
import sys

import pytest

from distilbert_jax.config import experiment_file
from distilbert_jax.config.experiment import Experiment
from distilbert_jax.config.finetune import FineTuneConfig

GOOD = """
import dataclasses
import sys
from typing import TYPE_CHECKING

from distilbert_jax.config.experiment import Experiment, Pretrained, Student
from distilbert_jax.data.shards.prepare import Corpus
from distilbert_jax.data.sources.files import TextFiles
from distilbert_jax.losses.base import LogitLoss, Loss
from distilbert_jax.losses.hard_targets import HardTargets


@dataclasses.dataclass(frozen=True, kw_only=True)
class Nothing(Loss):
    scale: float = 1.0

    def weights(self, batch):
        return batch.label_weights

    def values(self, params, student, teacher):
        return batch.label_weights


def experiment():
    return Experiment(
        name="mine",
        student=Student(layers=(0, 1), init_from=Pretrained("teacher")),
        corpus=Corpus(sources={"text": TextFiles("text.txt")}, shard_dir="shards"),
        losses={"hard": HardTargets(), "nothing": Nothing()},
        steps=4,
    )
"""
MISTAKES = {
    "no return": (
        "return Experiment",
        "Experiment",
        24,
        r"experiment\(\) must .*, but it returns nothing: add `return`",
    ),
    "another object": (
        "    return Exp",
        "    return 3\n    return Exp",
        24,
        r"experiment.. must return an Experiment, .* returns 3",
    ),
    "text for a number": ("steps=4", 'steps="4"', 25, "steps must be a whole number from 1 to 2,147,483,647, not '4'"),
    "a number for layers": (
        "layers=(0, 1)",
        "layers=2",
        27,
        "student.layers must be a tuple of whole numbers .* not 2",
    ),
    "a missing field": ("        steps=4,\n", "", 25, "TypeError: .*missing 1 required keyword-only argument: 'steps'"),
    "an unknown field": ("steps=4", "stepps=4", 25, r"Experiment has no field 'stepps' \(did you mean steps\?\)"),
    "an unknown field of a loss": ("Nothing()", "Nothing(scael=3)", 29, r"Nothing has no field 'scael' .*mean scale\?"),
    "a field of another class": (
        "HardTargets()",
        "HardTargets(weight=-1.0)",
        29,
        "HardTargets.weight must be a number",
    ),
    "a name": ("steps=4", "steps=number", 30, "NameError: name 'number' is not defined"),
    "a missing method": ("def weights(", "def weight(", 29, "the class Nothing does not define the method weights"),
    "a missing method of logits": (
        "class Nothing(Loss)",
        "class Nothing(LogitLoss)",
        29,
        "the class Nothing does not define the method values_from",
    ),
    "a module": ("import sys", "import systm", 3, "ModuleNotFoundError: No module named 'systm'"),
    "syntax": ("steps=4,", "steps=4,,", 30, "invalid syntax"),
    "an assertion": ("    return Exp", "    assert False\n    return Exp", 25, "AssertionError"),
    "an exit": ("    return Exp", "    sys.exit()\n    return Exp", 25, r"the file ends the program with sys\.exit"),
    "a file": ("    return Exp", "    open('nowhere')\n    return Exp", 25, r"FileNotFoundError: .*'nowhere'"),
}


@pytest.fixture
def load(tmp_path):
    """Returns load(text): what a file with this text defines."""

    def call(text, name="mine.py"):
        (tmp_path / name).write_text(text)
        before = dict(sys.modules)
        try:
            return experiment_file.load_experiment(tmp_path / name)
        finally:
            assert not {key for key in sys.modules.keys() - before.keys() if "mine" in key}
            assert str(tmp_path) not in sys.path

    return call


def test_a_good_file(load):
    assert load(GOOD).steps == 4
    # Dataclasses look up such annotations in the module.
    assert load("from __future__ import annotations\n" + GOOD).losses["nothing"].scale == 1


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_its_line(load, tmp_path, mistake):
    before, after, line, message = MISTAKES[mistake]
    assert GOOD.count(before)
    with pytest.raises(ValueError, match=rf"{re.escape(str(tmp_path))}/mine\.py, line {line}: {message}") as caught:
        load(GOOD.replace(before, after))
    assert "\n" not in str(caught.value)


def test_a_mistake_in_a_file_that_is_imported(load, tmp_path):
    (tmp_path / "base.py").write_text(GOOD.replace("steps=4", "steps=0"))
    with pytest.raises(ValueError, match=rf"{tmp_path}/base\.py, line 25: steps must be a whole number"):
        load("import base\n\n\ndef experiment():\n    return base.experiment()\n")
    sys.modules.pop("base")


def test_files_that_are_no_experiment(load, tmp_path):
    (tmp_path / "README.md").write_text("# A text\n")
    with pytest.raises(ValueError, match=r"README.md is not a Python file, NAME\.py; name an experiment file, such as"):
        experiment_file.load_experiment(tmp_path / "README.md")
    with pytest.raises(ValueError, match="no such experiment file"):
        experiment_file.load_experiment(tmp_path)
    for text in ("", "experiment = 3\n", "class experiment:\n    pass\n"):
        with pytest.raises(ValueError, match=r"mine\.py: there is no function `experiment`: define one"):
            load(text)
    (tmp_path / "mine.py").write_bytes(b"x = '\xff'\n")
    with pytest.raises(ValueError, match="mine.py"):
        experiment_file.load_experiment(tmp_path / "mine.py")
    (tmp_path / "mine.py").write_bytes(b"x = '\0'\n")
    with pytest.raises(ValueError, match="mine.py"):
        experiment_file.load_experiment(tmp_path / "mine.py")


def test_a_file_named_like_a_module_does_not_replace_it(load):
    import random

    assert load(GOOD, "random.py").steps == 4
    assert sys.modules["random"] is random


PATHS = {
    ("batch_size", Experiment): ["global_batch_size"],
    ("learning_rate", Experiment): ["optimizer.learning_rate"],
    ("temperature", Experiment): ["losses.NAME.temperature"],
    ("mask_rate", Experiment): ["masking.mask_rate"],
    ("batch_size", FineTuneConfig): ["batch_size"],
    ("xyz", Experiment): [],
}


@pytest.mark.parametrize("name, config_class", PATHS)
def test_the_paths_of_a_field(name, config_class):
    assert experiment_file.find_field_paths(name, config_class) == PATHS[name, config_class]
