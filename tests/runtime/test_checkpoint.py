"""Checkpoints: whole or not there, checked byte by byte, never all gone at once."""

import errno

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distilbert_jax.devices.mesh import make_mesh, replicated_sharding
from distilbert_jax.runtime.checkpoint import Checkpoints
from distilbert_jax.types import TrainState
from tests.helpers.batches import assert_same


def state(value):
    params = {"student": {"kernel": jnp.full((64, 64), float(value)), "bias": jnp.arange(3.0) + value}}
    return jax.device_put(
        TrainState(
            step=jnp.array(value), params=params, opt_state=(jnp.ones(3) * value,), nonfinite_steps=jnp.array(0)
        ),
        replicated_sharding(make_mesh()),
    )


@pytest.fixture
def checkpoints(tmp_path):
    opened = Checkpoints(tmp_path, keep=2)
    yield opened
    opened.close()


def save(checkpoints, *steps):
    for step in steps:
        checkpoints.save(state(step), step=step)
    checkpoints.wait()


def test_the_newest_comes_back_bit_by_bit_on_its_shardings(checkpoints):
    assert checkpoints.restore(state(0)) is None
    save(checkpoints, 1, 2)
    restored, step = checkpoints.restore(state(0))
    assert step == 2
    assert_same(restored, state(2))
    assert restored.params["student"]["kernel"].sharding == state(0).params["student"]["kernel"].sharding


def test_it_keeps_the_last_ones(checkpoints, tmp_path):
    save(checkpoints, 1, 2, 3, 10)
    assert checkpoints.steps() == [3, 10]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["10", "10.sha256", "3", "3.sha256"]


def test_giving_the_state_away_after_saving_does_not_change_what_is_saved(checkpoints):
    """The step's donated buffers are written to while the save goes on."""
    big = jax.jit(lambda: state(1).replace(params={"x": jnp.ones((3_000, 3_000))}))()
    spoil = jax.jit(lambda s: jax.tree.map(lambda x: x * 0 - 1, s), donate_argnums=0)
    checkpoints.save(big, step=1)
    jax.block_until_ready(spoil(big))
    like = state(1).replace(params={"x": jnp.zeros((3_000, 3_000))})
    checkpoints.wait()
    restored, _ = checkpoints.restore(like)
    np.testing.assert_array_equal(restored.params["x"], 1.0)


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "a flipped bit": lambda step: _flip(max(step.rglob("d/*"), key=lambda p: p.stat().st_size)),
    "a missing file": lambda step: next(step.rglob("manifest.ocdbt")).unlink(),
    "a missing metadata file": lambda step: next(step.rglob("_METADATA")).unlink(),
    "a cut file": lambda step: (step / "_CHECKPOINT_METADATA").write_bytes(b""),
    "no sums": lambda step: step.with_name(f"{step.name}.sha256").unlink(),
    "cut sums": lambda step: step.with_name(f"{step.name}.sha256").write_text('{"a'),
    "no folder": lambda step: __import__("shutil").rmtree(step),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_checkpoint_is_set_aside_loudly_and_the_one_before_used(checkpoints, tmp_path, capsys, name):
    save(checkpoints, 1, 2)
    DAMAGE[name](tmp_path / "2")
    restored, step = checkpoints.restore(state(0))
    assert step == 1
    assert_same(restored, state(1))
    said = " ".join(capsys.readouterr().out.split())
    assert "is not whole" in said
    assert "set aside as 2.damaged" in said
    save(checkpoints, 2)  # and the run can go on
    assert checkpoints.restore(state(0))[1] == 2


@pytest.mark.parametrize("name", DAMAGE)
def test_who_only_looks_takes_an_earlier_one_and_leaves_all_as_it_is(checkpoints, tmp_path, capsys, name):
    """What a crash left half written, a damaged one, and those of the step and after it."""
    checkpoints = Checkpoints(tmp_path, keep=5)
    save(checkpoints, 1, 2, 3)
    (tmp_path / "9.orbax-checkpoint-tmp").mkdir()
    DAMAGE[name](tmp_path / "2")
    before = sorted(tmp_path.rglob("*"))
    restored, step = checkpoints.peek(state(0), before=3)
    assert step == 1
    assert_same(restored, state(1))
    assert checkpoints.peek(state(0), before=1) is None
    assert sorted(tmp_path.rglob("*")) == before
    assert ("2 is passed over" in " ".join(capsys.readouterr().out.split())) == (name != "no sums")
    checkpoints.close()


def test_who_only_looks_makes_no_folder(tmp_path):
    looking = Checkpoints(tmp_path / "none", keep=1)
    assert looking.peek(state(0), before=5) is None
    looking.close()
    assert not (tmp_path / "none").exists()


def test_what_a_crash_left_behind_is_cleared(checkpoints, tmp_path):
    save(checkpoints, 1)
    (tmp_path / "2.orbax-checkpoint-tmp").mkdir()
    (tmp_path / "2.orbax-checkpoint-tmp" / "x").write_text("half")
    assert checkpoints.restore(state(0))[1] == 1
    assert not (tmp_path / "2.orbax-checkpoint-tmp").exists()


def test_a_full_disk_leaves_the_last_good_one(small_disk):
    checkpoints = Checkpoints(small_disk / "checkpoints", keep=2)
    save(checkpoints, 1)
    noise = np.random.default_rng(0).normal(size=(1_000, 1_000)).astype(np.float32)  # does not compress
    large = jax.device_put(state(2).replace(params={"x": jnp.asarray(noise)}), replicated_sharding(make_mesh()))
    with pytest.raises(OSError, match="checkpoint not written") as caught:
        checkpoints.save(large, step=2)
        checkpoints.wait()
    assert caught.value.errno == errno.ENOSPC
    assert checkpoints.restore(state(0))[1] == 1
    save(checkpoints, 3)
    assert checkpoints.steps() == [1, 3]
    checkpoints.close()
