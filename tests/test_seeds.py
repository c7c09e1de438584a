"""Tests that any integer is a seed, and that no two of them draw the same numbers."""

import itertools

import jax
import numpy as np
import pytest

from distilbert_jax.data.batches import _permutation_seed
from distilbert_jax.losses.base import init_loss_params
from distilbert_jax.losses.hidden_mse import HiddenMSE
from distilbert_jax.seeds import random_key, seed_words
from distilbert_jax.train.objective import row_keys
from tests.helpers.batches import make_rows

SEEDS = (0, 1, -1, 7, -7, 2**31, 2**32 - 1, 2**32, 2**32 + 1, -(2**32), 2**64, 10**23, -(10**23), 10**6_000)


@pytest.mark.parametrize("seed", [0, 1, 42, 2**31 - 1, 2**31, 2**32 - 1])
def test_seeds_of_32_bits_are_used_as_they_are(seed):
    assert seed_words(seed) == (seed,)
    np.testing.assert_array_equal(jax.random.key_data(random_key(seed)), [0, seed])
    assert (jax.random.key_data(random_key(seed)) == jax.random.key_data(jax.random.key(seed))).all()
    before = np.random.default_rng(seed).normal(size=3)
    np.testing.assert_array_equal(np.random.default_rng(seed_words(seed)).normal(size=3), before)
    assert _permutation_seed(seed, 3) == int(np.random.SeedSequence((seed, 3)).generate_state(1)[0])


def test_all_seeds_differ():
    keys = {seed: jax.random.key_data(random_key(seed)).tolist() for seed in SEEDS}
    assert len(set(map(tuple, keys.values()))) == len(SEEDS)
    assert len({_permutation_seed(*pair) for pair in itertools.product(SEEDS, range(3))}) == 3 * len(SEEDS)


def test_masks_and_parameters_of_a_run_follow_the_seed():
    rows = make_rows(b=2)
    keys = [jax.random.key_data(row_keys(seed, rows, 0)).tolist() for seed in (0, 2**32, -1)]
    assert keys[0] != keys[1] != keys[2] != keys[0]
    params = [
        init_loss_params({"hidden": HiddenMSE()}, seed=seed, student_size=4, teacher_size=8)["hidden"]["kernel"]
        for seed in (0, 2**32, -1)
    ]
    assert not np.allclose(params[0], params[1])
    assert not np.allclose(params[0], params[2])
