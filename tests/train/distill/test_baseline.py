"""Tests the comparison of a student with word frequencies, and what becomes of a student that is of no use."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest

from distilbert_jax import log_keys
from distilbert_jax.config import experiment_file
from distilbert_jax.train.distill.baseline import UnigramBaseline
from distilbert_jax.train.distill.export import check_learned
from distilbert_jax.train.distill.held_out import compute_perplexity, format_measurements
from distilbert_jax.types import LossScale, TrainState
from tests.conftest import ROOT

COUNTS = np.array([100, 9_000, 50, 25, 25, 0])  # the first two are special


def measure(cross_entropy, masked_tokens=400.0):
    values = {log_keys.ACCURACY: 0.5, log_keys.ACCURACY_STDERR: 0.1, log_keys.MASKED_TOKENS: masked_tokens}
    values |= {log_keys.CROSS_ENTROPY: cross_entropy, log_keys.PERPLEXITY: compute_perplexity(cross_entropy)}
    return {key.name: value for key, value in values.items()}


def test_the_baseline_is_the_entropy_of_the_words():
    baseline = UnigramBaseline.from_counts(COUNTS, [0, 1])
    assert baseline.entropy == pytest.approx(1.5 * math.log(2))
    assert baseline.variance == pytest.approx(0.25 * math.log(2) ** 2)
    assert UnigramBaseline.from_counts(np.array([7, 7, 7]), []).variance == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    "standard_errors, is_useless", [(-1, False), (0, False), (1.9, False), (2.1, True), (1e9, True), (math.nan, True)]
)
def test_two_standard_errors_are_allowed(standard_errors, is_useless):
    baseline = UnigramBaseline.from_counts(COUNTS, [0, 1])
    measured = measure(baseline.entropy + standard_errors * math.sqrt(baseline.variance / 400))
    assert (baseline.explain_failure(measured) is not None) == is_useless


def test_the_explanation_has_both_numbers():
    said = UnigramBaseline.from_counts(COUNTS, [0, 1]).explain_failure(measure(1_000.0))
    assert "perplexity on held-out rows is infinite (cross entropy 1000 nats per token)" in said
    assert "by its frequency in the corpus, 2.8." in said


def test_a_perplexity_beyond_a_float_is_infinite():
    assert compute_perplexity(2.0) == math.exp(2.0)
    assert compute_perplexity(710.0) == math.inf
    assert compute_perplexity(math.inf) == math.inf
    assert math.isnan(compute_perplexity(math.nan))


PERPLEXITIES = {2.04: "2.0", 999_999.0: "999999.0", 1.234e165: "1.2e+165", math.inf: "infinite", None: "–"}


@pytest.mark.parametrize("perplexity", PERPLEXITIES)
def test_perplexities_on_the_screen(perplexity):
    assert log_keys.format_perplexity(perplexity) == PERPLEXITIES[perplexity]
    assert log_keys.format_perplexity(math.nan) == "–"
    if perplexity is not None:
        measured = measure(3.0) | {log_keys.PERPLEXITY.name: perplexity}
        assert f"perplexity {PERPLEXITIES[perplexity]}." in format_measurements(measured)


@pytest.mark.parametrize("nonfinite, overflows, learned", [(0, 0, True), (3, 0, True), (4, 0, False), (1, 3, False)])
def test_a_run_without_one_update_is_not_exported(nonfinite, overflows, learned):
    zero = jnp.zeros((), jnp.int32)
    scale = LossScale(value=zero, steps_since_change=zero, num_overflows=zero + overflows) if overflows else None
    state = TrainState(step=zero, params={}, opt_state={}, nonfinite_steps=zero + nonfinite, loss_scale=scale)
    experiment = experiment_file.load_experiment(ROOT / "experiments" / "quickstart.py")
    experiment = dataclasses.replace(experiment, steps=4, dtype="float16")
    if learned:
        check_learned(experiment, state)
    else:
        with pytest.raises(ValueError, match="all 4 steps were skipped.*learned nothing, so it is not exported"):
            check_learned(experiment, state)
