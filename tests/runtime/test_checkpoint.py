"""Checkpoints are complete or absent, are checked byte by byte, and never all disappear at once."""

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


def test_the_newest_checkpoint_is_restored_bit_by_bit_with_its_shardings(checkpoints):
    assert checkpoints.restore(state(0)) is None
    save(checkpoints, 1, 2)
    restored, step = checkpoints.restore(state(0))
    assert step == 2
    assert_same(restored, state(2))
    assert restored.params["student"]["kernel"].sharding == state(0).params["student"]["kernel"].sharding


def test_the_last_checkpoints_are_kept(checkpoints, tmp_path):
    save(checkpoints, 1, 2, 3, 10)
    assert checkpoints.steps() == [3, 10]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["10", "10.sha256", "3", "3.sha256"]


def test_donating_the_state_after_saving_does_not_change_what_is_saved(checkpoints):
    """The step writes to the donated buffers while the save is still running."""
    big = jax.jit(lambda: state(1).replace(params={"x": jnp.ones((3_000, 3_000))}))()
    overwrite = jax.jit(lambda s: jax.tree.map(lambda x: x * 0 - 1, s), donate_argnums=0)
    checkpoints.save(big, step=1)
    jax.block_until_ready(overwrite(big))
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
    "no hashes": lambda step: step.with_name(f"{step.name}.sha256").unlink(),
    "cut hashes": lambda step: step.with_name(f"{step.name}.sha256").write_text('{"a'),
    "no folder": lambda step: __import__("shutil").rmtree(step),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_checkpoint_is_renamed_with_a_message_and_the_one_before_is_used(checkpoints, tmp_path, capsys, name):
    save(checkpoints, 1, 2)
    DAMAGE[name](tmp_path / "2")
    restored, step = checkpoints.restore(state(0))
    assert step == 1
    assert_same(restored, state(1))
    message = " ".join(capsys.readouterr().out.split())
    assert "is damaged or incomplete" in message
    assert "It was renamed to 2.damaged." in message
    save(checkpoints, 2)  # the run can continue
    assert checkpoints.restore(state(0))[1] == 2


@pytest.mark.parametrize("name", DAMAGE)
def test_peek_takes_an_earlier_checkpoint_and_changes_nothing(checkpoints, tmp_path, capsys, name):
    """Neither what a crash left half written, nor a damaged checkpoint, nor later ones."""
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
    assert ("2 is skipped" in " ".join(capsys.readouterr().out.split())) == (name != "no hashes")
    checkpoints.close()


def test_peek_creates_no_folder(tmp_path):
    checkpoints = Checkpoints(tmp_path / "none", keep=1)
    assert checkpoints.peek(state(0), before=5) is None
    checkpoints.close()
    assert not (tmp_path / "none").exists()


def test_what_a_crash_left_behind_is_deleted(checkpoints, tmp_path):
    save(checkpoints, 1)
    (tmp_path / "2.orbax-checkpoint-tmp").mkdir()
    (tmp_path / "2.orbax-checkpoint-tmp" / "x").write_text("half")
    assert checkpoints.restore(state(0))[1] == 1
    assert not (tmp_path / "2.orbax-checkpoint-tmp").exists()


def test_a_full_disk_leaves_the_last_valid_checkpoint(small_disk):
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
