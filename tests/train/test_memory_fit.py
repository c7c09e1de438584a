"""How many rows fit: chosen by what the step needs, and named when a device ran out."""

import dataclasses

import jax
import pytest

from distilbert_jax.config import experiment_file
from distilbert_jax.hub.smoke import make_smoke_experiment
from distilbert_jax.train import memory_fit
from distilbert_jax.train.distill import loop
from distilbert_jax.train.memory_fit import StepMemory, find_max_rows
from tests.conftest import ROOT


@pytest.mark.parametrize(
    "limit, rows", [(99, None), (150, 1), (205, 2), (10_000, 48), (100 + 47 * 100 - 1, 24), (100 + 23 * 100, 24)]
)
def test_the_most_that_fit(limit, rows):
    asked = []

    def need(n):
        asked.append(n)
        return 100 + (n - 1) * 100

    if rows is None:
        with pytest.raises(ValueError, match=r"One row at a time needs 0.00 GB(.|\n)*remat=layers"):
            find_max_rows(need, device_rows=48, limit=limit)
        return
    assert find_max_rows(need, device_rows=48, limit=limit) == rows
    assert len(set(asked)) <= 4, "each is compiled"


@pytest.mark.parametrize("need", [lambda n: n * n, lambda n: 1000 * n**0.5])
def test_a_line_that_bends_is_followed(need):
    most = max(n for n in (1, 2, 4, 8, 16, 32, 64) if need(n) <= 4_500)
    assert find_max_rows(need, device_rows=64, limit=4_500) == most


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    quickstart = experiment_file.load_experiment(ROOT / "experiments" / "quickstart.py")
    tiny = experiment_file.apply_overrides(quickstart, ["student.layers=(0,1)"])
    tiny = make_smoke_experiment(tiny, tmp_path_factory.mktemp("tiny"))
    return dataclasses.replace(tiny, steps=2, global_batch_size=32, per_device_batch_size="auto")


def test_auto_asks_the_compiled_step(experiment, tmp_path, monkeypatch, capsys):
    asked = []
    most = memory_fit.find_max_rows

    def spy(need, *, device_rows, limit):
        rows = most(need, device_rows=device_rows, limit=limit)
        asked.append((rows, device_rows, need(rows), limit))
        return rows

    monkeypatch.setattr(memory_fit, "find_max_rows", spy)
    loop.distill(dataclasses.replace(experiment, workdir=str(tmp_path), global_batch_size=8))
    ((rows, each, need, limit),) = asked
    assert rows == each == 1  # of 8 on eight devices
    assert 10_000 < need < limit
    assert "per_device_batch_size=auto chose 1: a step needs 0.00 GB of the " in capsys.readouterr().out


def test_out_of_memory_names_what_fits(experiment, tmp_path, monkeypatch):
    def full(*arguments):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.")

    build = loop.setup_distillation
    monkeypatch.setattr(
        loop, "setup_distillation", lambda *inputs: dataclasses.replace(build(*inputs), train_step=full)
    )
    monkeypatch.setattr(StepMemory, "bytes_needed", lambda self, rows: rows * 10**9)
    monkeypatch.setattr(memory_fit, "available_bytes", lambda: 3 * 10**9)
    with pytest.raises(ValueError, match=r"out of memory with per_device_batch_size=4: a step needs 4.00 GB") as caught:
        loop.distill(dataclasses.replace(experiment, workdir=str(tmp_path), per_device_batch_size=32))
    assert (
        "but only 3.00 GB can be used. Set per_device_batch_size=2, which fits, or remat=layers, which needs less "
        "memory for each row" in str(caught.value)
    )


def test_another_error_of_the_device_stays_what_it_is(experiment, tmp_path, monkeypatch):
    def wrong(*arguments):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    build = loop.setup_distillation
    monkeypatch.setattr(
        loop, "setup_distillation", lambda *inputs: dataclasses.replace(build(*inputs), train_step=wrong)
    )
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        loop.distill(dataclasses.replace(experiment, workdir=str(tmp_path), per_device_batch_size=4))
