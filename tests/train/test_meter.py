"""What the meter makes of a step that is not finite."""

import contextlib

import jax.numpy as jnp
import pytest

from distilbert_jax.train.checkpoint import Checkpoints
from distilbert_jax.train.log import Log
from distilbert_jax.train.meter import Meter


def after(tmp_path, *, bad_steps, **allowed):
    """A meter that has read a step whose loss is NaN, when `bad_steps` updates were left out so far."""
    with Log(tmp_path, start=0) as log, contextlib.closing(Checkpoints(tmp_path / "checkpoints", keep=1)) as kept:
        meter = Meter(log, kept, losses={}, schedule=lambda step: 0.0, log_every=10, **allowed)
        meter.after(7, {"loss": jnp.array(jnp.nan), "bad_steps": jnp.array(bad_steps)}, 0.0, tokens=1)
        meter.catch_up()


def test_the_first_is_one_too_many_where_nothing_is_allowed(tmp_path):
    """As in fine-tuning, which has no replay either."""
    with pytest.raises(ValueError, match="step 7: loss became nan. The update was left out. There is no") as caught:
        after(tmp_path, bad_steps=1)
    assert "replay" not in str(caught.value)
    assert "bad_steps_allowed" not in str(caught.value)


def test_as_many_as_are_allowed_and_not_one_more(tmp_path, capsys):
    after(tmp_path, bad_steps=3, bad_steps_allowed=3)
    assert "3 of the 3 that bad_steps_allowed grants" in capsys.readouterr().out
    with pytest.raises(ValueError, match=f"replay {tmp_path} 7. If it comes again"):
        after(tmp_path, bad_steps=4, bad_steps_allowed=3, run=tmp_path)
