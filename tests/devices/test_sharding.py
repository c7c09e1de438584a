"""Whatever the mesh, the gradient is the same; what a device holds falls as it should, and devices meet no more often
than they must.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from distilbert_jax.devices.mesh import make_mesh, row_sharding
from distilbert_jax.devices.sharding import partition_specs, shardings
from distilbert_jax.performance import collectives
from distilbert_jax.train.step import init_train_state, make_gradients, make_train_step
from tests.helpers.batches import make_rows, stack
from tests.train.test_step import LOSSES, STUDENT, TEACHER, objective, one_device, random_params

ACCUMULATION = 2
MESHES = {"fsdp": (8, 1), "data and fsdp": (4, 1), "data and tensor": (1, 2), "all three": (2, 2)}  # (fsdp, tensor)


def arguments(mesh):
    params = {"student": random_params(STUDENT, 1), "losses": {name: {} for name in LOSSES}}
    teachers = {"teacher": random_params(TEACHER, 2)}
    params, teachers = (jax.device_put(tree, shardings(tree, mesh)) for tree in (params, teachers))
    return params, teachers, jax.device_put(stack(make_rows(b=16), ACCUMULATION), row_sharding(mesh))


@pytest.fixture(scope="module")
def alone():
    mesh = one_device()
    return jax.device_get(jax.jit(make_gradients(objective(), mesh))(*arguments(mesh)))


def largest(tree):
    return max(np.abs(x).max() for x in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", MESHES)
def test_the_gradient_is_the_same(alone, name):
    fsdp, tensor = MESHES[name]
    mesh = make_mesh(fsdp=fsdp, tensor=tensor)
    given = arguments(mesh)
    compiled = jax.jit(make_gradients(objective(), mesh)).lower(*given).compile()
    grads, metrics = compiled(*given)
    for ours, wanted in ((grads, alone[0]), (metrics, alone[1])):
        difference = jax.tree.map(lambda a, b: np.abs(a - b).max(), jax.device_get(ours), wanted)
        assert largest(difference) < 2e-6 * largest(wanted)
    kernel = grads["student"]["encoder"]["layer_0"]["up"]["kernel"]
    assert kernel.addressable_shards[0].data.size == kernel.size / (fsdp * tensor)  # each device keeps its part
    found = collectives.parse_collectives(compiled.as_text())
    if tensor == 1:
        _demand_few(found, given, fsdp=fsdp)
    elif fsdp == 1:  # Megatron's: sums, and nothing that moves from one device to another
        assert {each.kind for each in found} == {"all-reduce"}


def _demand_few(found, given, *, fsdp):
    """The student is put together once an update, and its gradient added up once; only the teacher comes together in
    each micro-batch, once.
    """
    cut = lambda tree: sum("fsdp" in spec for spec in jax.tree.leaves(partition_specs(tree, make_mesh(fsdp=fsdp))))
    gathers = [each.times for each in found if each.kind == "all-gather"]
    assert gathers.count(1) <= cut(given[0])
    assert 0 < gathers.count(ACCUMULATION) <= cut(given[1])
    reductions = [each for each in found if each.kind != "all-gather"]
    assert reductions
    assert all(each.times == 1 for each in reductions), reductions


def test_each_device_holds_its_part_of_the_state():
    held = {}
    for fsdp in (1, 8):
        mesh = make_mesh(fsdp=fsdp)
        params = {"student": random_params(dataclasses.replace(STUDENT, vocab_size=4_096), 1), "losses": {}}
        state = init_train_state(params, optax.adamw(1e-3), mesh)
        held[fsdp] = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(state))
    assert held[8] < held[1] / 6  # biases are whole: 4,096 floats of the words, and two moments
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
    of = lambda **axes: partition_specs(tree, make_mesh(**axes))
    assert of(tensor=2) == {"words": {"embedding": P("tensor", None)}, "up": {"kernel": P(None, "tensor")}}
    assert of(tensor=4, fsdp=2) == {"words": {"embedding": P(None, "fsdp")}, "up": {"kernel": P("fsdp", "tensor")}}


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ({"fsdp": 3}, r"fsdp=3 × tensor=1 does not divide 8 devices: choose 1, 2, 4 or 8 as their product"),
        ({"fsdp": 4, "tensor": 4}, "fsdp=4 × tensor=4 does not divide 8 devices"),
    ],
)
def test_a_mesh_that_does_not_divide(axes, said):
    with pytest.raises(ValueError, match=said):
        make_mesh(**axes)
