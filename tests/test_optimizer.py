"""The learning rate that is logged, computed on the host, is the one of the training step."""

import jax.numpy as jnp
import numpy as np
import pytest

from distilbert_jax.optimizer import AdamW


@pytest.mark.parametrize(("steps", "warmup_ratio"), [(1, 0.05), (7, 0.0), (100, 0.05), (101, 0.5), (10, 1.0)])
def test_the_schedule_is_the_same_on_the_host_and_on_the_device(steps, warmup_ratio):
    schedule = AdamW(learning_rate=3.3e-4, warmup_ratio=warmup_ratio).make_schedule(steps)
    on_host = [float(schedule(step)) for step in range(steps)]
    assert on_host == pytest.approx(np.asarray(schedule(jnp.arange(steps)), float).tolist(), rel=1e-5, abs=1e-10)
    warmup_steps = max(1, round(warmup_ratio * steps))
    assert on_host[0] == pytest.approx(3.3e-4 / warmup_steps, rel=1e-5)
    assert max(on_host) == on_host[warmup_steps - 1] == pytest.approx(3.3e-4)
    assert on_host == sorted(on_host[:warmup_steps]) + sorted(on_host[warmup_steps:], reverse=True)
