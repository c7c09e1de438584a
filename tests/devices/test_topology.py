"""Tests that the data and the learning do not depend on the devices.

One device, eight devices, and two processes of four devices see the same tokens and masks, bit for bit.
"""

import dataclasses

import jax
import numpy as np
import pytest

from distilbert_jax.config import experiment_file
from distilbert_jax.devices.mesh import make_mesh
from distilbert_jax.train.distill import setup
from tests.devices.test_processes import ended, environment, places, start, tiny
from tests.helpers.seen import FIELDS, STEPS, seen


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("topology"))


@pytest.fixture(scope="module")
def on_eight(file):
    return seen(experiment_file.load_experiment(file))


def assert_same(actual, expected):
    """Checks that two runs agree, and returns the largest difference of gradients, relative to the largest gradient."""
    assert actual.keys() == expected.keys()
    for name in FIELDS:
        np.testing.assert_array_equal(actual[name], expected[name], err_msg=name)
    for name in actual.keys() - {*FIELDS, "gradient"}:
        # A KL is the small difference of two numbers about log v, so it has their rounding errors.
        np.testing.assert_allclose(actual[name], expected[name], rtol=2e-6, atol=2e-7, err_msg=name)
    difference = np.abs(actual["gradient"] - expected["gradient"]).max() / np.abs(expected["gradient"]).max()
    assert difference < 1e-6
    return difference


def test_the_batches_are_packed_and_smoothed(on_eight, file):
    """Otherwise the other tests would compare too little."""
    assert on_eight["segment_ids"].max() > 1
    assert on_eight["row_ids"].shape == (STEPS, 16)
    assert on_eight["label_weights"].sum() > 100
    uniform = experiment_file.apply_overrides(experiment_file.load_experiment(file), ["masking.smoothing=0.0"])
    assert (seen(uniform, learns=False)["labels"] != on_eight["labels"]).any()


@pytest.mark.parametrize("per_device_batch_size", [1, 16])
def test_one_device_whatever_the_accumulation(file, on_eight, monkeypatch, per_device_batch_size):
    one = make_mesh(devices=jax.devices()[:1])
    monkeypatch.setattr(setup, "make_mesh", lambda **_: one)
    assert_same(
        seen(dataclasses.replace(experiment_file.load_experiment(file), per_device_batch_size=per_device_batch_size)),
        on_eight,
    )


@pytest.mark.parametrize("changes", [["fsdp=8"], ["fsdp=2", "tensor=2"]])
def test_devices_that_share_parameters(file, on_eight, changes):
    assert_same(seen(experiment_file.apply_overrides(experiment_file.load_experiment(file), changes)), on_eight)


@pytest.mark.parametrize("change", ["seed=1", "masking.mask_rate=0.2"])
def test_other_rows_or_masks_would_show(file, on_eight, change):
    other = seen(experiment_file.apply_overrides(experiment_file.load_experiment(file), [change]), learns=False)
    with pytest.raises(AssertionError, match=r"row_ids|tokens"):
        assert_same(on_eight | other, on_eight)


def test_two_processes_of_four_devices(file, on_eight, figures):
    result = file.parent / "seen.npz"
    commands = [["tests.helpers.seen", str(file), str(result), place] for place in places(2)]
    for status, stderr in map(ended, start(commands, environment(devices=4))):
        assert status == 0, stderr
    difference = assert_same(dict(np.load(result)), on_eight)
    figures(
        "test_two_processes_of_four_devices",
        f"{on_eight['tokens'].size:,} tokens the same; gradients apart by {difference:.0e} of the largest",
    )
