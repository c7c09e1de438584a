"""The parts of a step are those of the step, and what turned is found where it turned."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distilbert_jax.devices.mesh import make_mesh, row_sharding
from distilbert_jax.losses.base import Loss
from distilbert_jax.losses.hard_targets import HardTargets
from distilbert_jax.losses.soft_targets import SoftTargets
from distilbert_jax.train.replay import first_nonfinite
from distilbert_jax.train.step_inspection import make_inspect_step
from tests.helpers.batches import assert_close, make_rows, stack
from tests.train.test_step import objective, one_device, setup

BAD = 5  # the row that turns


@dataclasses.dataclass(frozen=True, kw_only=True)
class Root(Loss):
    """√x of a number that is 0 in one row: finite, but its gradient is not."""

    def weights(self, batch):
        return batch.token_mask.astype(jnp.float32)

    def values(self, params, student, teacher):
        x = jnp.square(student.hidden_states[-1]).sum(-1)
        return jnp.sqrt(jnp.where((student.batch.row_ids == BAD)[:, None], 0.0 * x, x))


LOSSES = {"soft": SoftTargets(weight=5.0), "hard": HardTargets(weight=2.0)}


def dissected(losses=LOSSES, *, mesh=None, rows=None, change=lambda params: params):
    """(the step's metrics, parameters before and after it, its parts)."""
    mesh = mesh or one_device()
    step, state, teachers = setup(losses, mesh=mesh)
    state = state.replace(params=change(state.params))
    dissect = make_inspect_step(objective(losses), mesh)
    rows = jax.device_put(stack(make_rows(), 2) if rows is None else rows, row_sharding(mesh))
    after, measured = step(state, teachers, rows)
    return measured, state.params, after.params, jax.device_get(jax.jit(dissect)(state.params, teachers, rows))


@pytest.mark.parametrize("devices", [1, 8])
def test_the_rows_add_up_to_the_step(devices):
    rows = stack(make_rows(b=16), 2)
    measured, _, _, parts = dissected(mesh=make_mesh() if devices == 8 else None, rows=rows)
    for name, shares in parts.means.items():
        assert shares.shape == (2, 8)
        np.testing.assert_allclose(shares.sum(), measured[f"loss/{name}" if name in LOSSES else name], rtol=1e-5)
    assert first_nonfinite.find_first_nonfinite(parts, list(LOSSES)) is None


def test_the_gradients_are_those_of_the_step():
    """Of a batch of one row and one loss: what plain SGD at rate 1 takes away."""
    rows = jax.tree.map(lambda x: x[None, :1], make_rows())
    _, before, after, parts = dissected({"hard": HardTargets(weight=2.0)}, rows=rows)
    taken = jax.tree.map(lambda a, b: np.abs(a - b).max(), before, after)
    assert_close(jax.tree.map(np.squeeze, parts.gradients["hard"]), taken, rtol=1e-3, atol=1e-6)


def test_a_gradient_that_turns_is_named_with_its_loss_and_row():
    _, _, _, parts = dissected({**LOSSES, "root": Root()})
    found = first_nonfinite.find_first_nonfinite(parts, [*LOSSES, "root"])
    assert found.describe() == (
        "the gradient of the loss root became non-finite first, at layer 0 "
        "(student/encoder/layer_0/attention_norm/bias, student/encoder/layer_0/attention_norm/scale, "
        "student/encoder/layer_0/down/bias and 13 more); every loss and hidden state "
        "is finite. Affected rows: 1 of 8; the first one is in micro-batch 2 of 2"
    )
    assert found.first_row() == (1, BAD - 4)


@pytest.mark.parametrize("place", ["words", "norm", "transform"])
def test_the_place_below_which_all_is_well(place):
    """One weight of NaN, in the embeddings or in the head."""

    def change(params):
        student = dict(params["student"])
        tree = student["encoder"] if place == "words" else student
        broken = jax.tree.map(lambda x: x * jnp.nan, tree[place])
        student |= {"encoder": {**tree, place: broken}} if place == "words" else {place: broken}
        return {**params, "student": student}

    _, _, _, parts = dissected(change=change)
    expected = "embeddings" if place == "words" else "head"
    message = first_nonfinite.find_first_nonfinite(parts, list(LOSSES)).describe()
    assert message.startswith(
        f"{expected} of the student became non-finite first; then these became non-finite: soft, hard. "
        "Affected rows: 8 of 8;"
    )
