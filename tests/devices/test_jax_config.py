"""Settings of JAX in the environment: those that would change numbers, and platforms that are not there."""

import os
import subprocess
import sys

import jax
import pytest

from distilbert_jax.devices.jax_config import REQUIRED_OPTIONS, check_jax_options
from tests.conftest import ROOT


def command(*words, **environment):
    """Runs a command in an environment. Returns its status and the lines of its error output."""
    done = subprocess.run(
        [sys.executable, *words], env={**os.environ, **environment}, capture_output=True, text=True, cwd=ROOT
    )
    return done.returncode, done.stderr.splitlines()


def test_the_options_of_the_tests_are_the_required_ones():
    check_jax_options()
    assert all(hasattr(jax.config, option) for option in REQUIRED_OPTIONS)


@pytest.mark.parametrize(
    ("option", "value", "required"),
    [
        ("jax_enable_x64", True, False),
        ("jax_threefry_partitionable", False, True),
        ("jax_default_prng_impl", "rbg", "threefry2x32"),
        ("jax_default_matmul_precision", "highest", None),
        ("jax_numpy_dtype_promotion", "strict", "standard"),
        ("jax_debug_nans", True, False),
        ("jax_disable_jit", True, False),
        ("jax_random_seed_offset", 3, 0),
    ],
)
def test_an_option_that_changes_numbers_is_refused(option, value, required):
    before = getattr(jax.config, option)
    jax.config.update(option, value)
    try:
        with pytest.raises(ValueError, match=f"^{option.upper()} is {value}, but must be {required}: .* Unset the"):
            check_jax_options()
    finally:
        jax.config.update(option, before)


@pytest.mark.parametrize(
    "variable", ["JAX_ENABLE_X64=1", "JAX_THREEFRY_PARTITIONABLE=0", "JAX_DEFAULT_PRNG_IMPL=rbg", "JAX_DISABLE_JIT=1"]
)
def test_a_variable_that_changes_numbers_ends_the_command_with_one_line(variable, tmp_path):
    name, _, value = variable.partition("=")
    words = ("-m", "distilbert_jax", "distill", "experiments/quickstart.py", "--smoke", str(tmp_path / "smoke"))
    status, lines = command(*words, **{name: value})
    assert status == 1
    assert [line.partition(" is ")[0] for line in lines] == [f"error: {name}"]


@pytest.mark.parametrize("platforms", ["cuda", "tpu", "cupd"])
def test_a_platform_that_is_not_there_is_one_line(platforms, shallow_bert_folder, tmp_path):
    for split in ("train", "dev"):
        (tmp_path / f"{split}.csv").write_text("text,label\nred,a\nblue,b\n")
    words = ("-m", "distilbert_jax", "evaluate", str(shallow_bert_folder), "--task", f"mine={tmp_path}")
    status, lines = command(*words, JAX_PLATFORMS=platforms)
    assert status == 1
    (line,) = lines
    assert line.startswith(f"error: JAX_PLATFORMS={platforms} names a device that this machine does not have")
    assert line.endswith("Unset JAX_PLATFORMS to use the devices that are there, or set JAX_PLATFORMS=cpu")
