"""Tests that the gradient is the same on every mesh, that devices hold only their parts of the state, and that they
communicate no more often than necessary.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from distilbert_jax.devices.mesh import make_mesh, row_sharding
from distilbert_jax.devices.sharding import make_shardings, partition_specs
from distilbert_jax.performance import collectives
from distilbert_jax.train.step import init_train_state, make_gradients, make_train_step
from tests.helpers.batches import make_rows, stack
from tests.train.test_step import LOSSES, STUDENT, TEACHER, objective, one_device, random_params

ACCUMULATION = 2
MESHES = {"fsdp": (8, 1), "data and fsdp": (4, 1), "data and tensor": (1, 2), "all three": (2, 2)}  # (fsdp, tensor)


def arguments(mesh):
    """Returns the arguments of the gradient function, sharded on a mesh."""
    params = {"student": random_params(STUDENT, 1), "losses": {name: {} for name in LOSSES}}
    teachers = {"teacher": random_params(TEACHER, 2)}
    params, teachers = (jax.device_put(tree, make_shardings(tree, mesh)) for tree in (params, teachers))
    return params, teachers, jax.device_put(stack(make_rows(b=16), ACCUMULATION), row_sharding(mesh))


@pytest.fixture(scope="module")
def alone():
    """Returns (gradients, metrics) on one device."""
    mesh = one_device()
    return jax.device_get(jax.jit(make_gradients(objective(), mesh))(*arguments(mesh)))


def largest(tree):
    """Returns the largest absolute value in a tree."""
    return max(np.abs(x).max() for x in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", MESHES)
def test_the_gradient_is_the_same(alone, name):
    fsdp, tensor = MESHES[name]
    mesh = make_mesh(fsdp=fsdp, tensor=tensor)
    args = arguments(mesh)
    compiled = jax.jit(make_gradients(objective(), mesh)).lower(*args).compile()
    grads, metrics = compiled(*args)
    for actual, expected in ((grads, alone[0]), (metrics, alone[1])):
        difference = jax.tree.map(lambda a, b: np.abs(a - b).max(), jax.device_get(actual), expected)
        assert largest(difference) < 2e-6 * largest(expected)
    kernel = grads["student"]["encoder"]["layer_0"]["up"]["kernel"]
    assert kernel.addressable_shards[0].data.size == kernel.size / (fsdp * tensor)  # each device keeps its part
    operations = collectives.parse_collectives(compiled.as_text())
    if tensor == 1:
        _assert_few_collectives(operations, args, fsdp=fsdp)
    elif fsdp == 1:  # as in Megatron: only sums, and nothing that moves from one device to another
        assert {operation.kind for operation in operations} == {"all-reduce"}


def _assert_few_collectives(operations, args, *, fsdp):
    """The student is gathered and its gradient summed once for each update; the teacher is gathered once for each
    micro-batch.
    """

    def count_sharded(tree):
        return sum("fsdp" in spec for spec in jax.tree.leaves(partition_specs(tree, make_mesh(fsdp=fsdp))))

    gathers = [operation.times for operation in operations if operation.kind == "all-gather"]
    assert gathers.count(1) <= count_sharded(args[0])
    assert 0 < gathers.count(ACCUMULATION) <= count_sharded(args[1])
    reductions = [operation for operation in operations if operation.kind != "all-gather"]
    assert reductions
    assert all(operation.times == 1 for operation in reductions), reductions


def test_each_device_holds_its_part_of_the_state():
    held = {}
    for fsdp in (1, 8):
        mesh = make_mesh(fsdp=fsdp)
        params = {"student": random_params(dataclasses.replace(STUDENT, vocab_size=4_096), 1), "losses": {}}
        state = init_train_state(params, optax.adamw(1e-3), mesh)
        held[fsdp] = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(state))
    assert held[8] < held[1] / 6  # biases are not divided: 4,096 floats of the vocabulary, and two moments
    assert isinstance(state.opt_state[0].mu, dict)


def test_an_update_leaves_the_state_cut_as_it_was(alone):
    mesh = make_mesh(fsdp=4, tensor=2)
    params, teachers, rows = arguments(mesh)
    state = init_train_state(params, optax.sgd(1.0, momentum=0.9), mesh)
    step = jax.jit(make_train_step(make_gradients(objective(), mesh), optax.sgd(1.0, momentum=0.9), mesh))
    after, _ = step(state, teachers, rows)
    for before, now in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        assert now.sharding.is_equivalent_to(before.sharding, now.ndim)
    difference = jax.tree.map(lambda a, b, g: np.abs(a - b - g).max(), params, after.params, alone[0])
    assert largest(difference) < 1e-6


def test_what_does_not_divide_stays_whole():
    tree = {"words": {"embedding": jnp.zeros((30_522, 768))}, "up": {"kernel": jnp.zeros((768, 3_072))}}

    def specs(**axes):
        return partition_specs(tree, make_mesh(**axes))

    assert specs(tensor=2) == {"words": {"embedding": P("tensor", None)}, "up": {"kernel": P(None, "tensor")}}
    assert specs(tensor=4, fsdp=2) == {"words": {"embedding": P(None, "fsdp")}, "up": {"kernel": P("fsdp", "tensor")}}


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (
            {"fsdp": 3},
            "fsdp × tensor is 3, but must divide the number of devices, 8: choose values whose product is 1, 2, 4 or 8",
        ),
        ({"fsdp": 4, "tensor": 4}, "fsdp × tensor is 16, but must divide the number of devices, 8"),
    ],
)
def test_a_mesh_that_does_not_divide(axes, message):
    with pytest.raises(ValueError, match=message):
        make_mesh(**axes)
