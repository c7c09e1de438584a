"""One update: what may change its result, and what may not."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from distilbert_jax.devices.mesh import make_mesh, replicated_sharding, row_sharding, split_batch
from distilbert_jax.heads.masked_lm import MaskedLM
from distilbert_jax.hub.load import parameter_shapes
from distilbert_jax.losses import metrics
from distilbert_jax.losses.base import init_loss_params
from distilbert_jax.losses.hard_targets import HardTargets
from distilbert_jax.losses.hidden_cosine import HiddenCosine
from distilbert_jax.losses.hidden_mse import HiddenMSE
from distilbert_jax.losses.soft_targets import SoftTargets
from distilbert_jax.train.objective import DROPOUT_KEY, Objective, row_keys
from distilbert_jax.train.step import make_gradients, make_train_step
from distilbert_jax.types import TrainState
from tests.conftest import tiny_config
from tests.helpers.batches import VOCABULARY, assert_close, assert_same, make_rows, masked, plain, stack
from tests.helpers.variation import TotalVariation

TEACHER = tiny_config(vocab_size=VOCABULARY, max_positions=16, num_layers=2)
STUDENT = dataclasses.replace(TEACHER, num_layers=1, num_token_types=0)
LOSSES = {
    "soft": SoftTargets(weight=5.0),
    "masked": SoftTargets(positions="masked"),
    "hard": HardTargets(weight=2.0),
    "cosine": HiddenCosine(),
    "variation": TotalVariation(),
}


@functools.cache
def random_params(config, seed):
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(random.normal(0, 0.1, x.shape), jnp.float32), parameter_shapes(config))


def one_device():
    return make_mesh(devices=jax.devices()[:1])


NARROW = dataclasses.replace(STUDENT, hidden_size=TEACHER.hidden_size // 2, num_heads=TEACHER.num_heads // 2)


def objective(losses=LOSSES, *, student=STUDENT, ask=None):
    return Objective(
        student=MaskedLM(student).apply,
        teachers={"teacher": MaskedLM(TEACHER).apply},
        losses=losses,
        extra_metrics=metrics.TEACHER_METRICS,
        make_batch=ask or masked(everywhere=True),
        seed=7,
    )


def setup(losses=LOSSES, *, mesh=None, tx=None, ask=None, student=STUDENT):
    """(jitted step, state, teachers): gradients are compared through plain SGD, since Adam's update amplifies the
    rounding of gradients that are zero in mathematics.
    """
    mesh = mesh or one_device()
    tx = tx or optax.sgd(1.0)
    sizes = {"student_size": student.hidden_size, "teacher_size": TEACHER.hidden_size}
    params = {"student": random_params(student, 1), "losses": init_loss_params(losses, seed=7, **sizes)}
    state = TrainState(step=jnp.array(0), params=params, opt_state=tx.init(params), nonfinite_steps=jnp.array(0))
    step = make_train_step(make_gradients(objective(losses, student=student, ask=ask), mesh), tx, mesh)
    return jax.jit(step), jax.device_put(state, replicated_sharding(mesh)), {"teacher": random_params(TEACHER, 2)}


@functools.cache
def reference(rows=8):
    """All losses, one device, no accumulation."""
    step, state, teachers = setup()
    return step(state, teachers, stack(make_rows(b=rows), 1))


@pytest.mark.parametrize("accumulation", [2, 8])
def test_accumulation_changes_nothing_masks_and_dropout_included(accumulation):
    """The rows differ in length, so a mean of means would be another number."""
    step, state, teachers = setup()
    got, measured = step(state, teachers, stack(make_rows(), accumulation))
    assert_close(measured, reference()[1], rtol=2e-5, atol=1e-6)
    assert_close(got.params, reference()[0].params, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_eight_devices_do_what_one_does(accumulation):
    mesh = make_mesh()
    assert mesh.size == 8
    step, state, teachers = setup(mesh=mesh)
    rows = jax.device_put(stack(make_rows(b=16), accumulation), row_sharding(mesh))
    got, measured = step(state, teachers, rows)
    wanted = reference(rows=16)
    assert_close(measured, wanted[1], rtol=2e-5, atol=1e-6)
    assert_close(got.params, wanted[0].params, rtol=1e-4, atol=2e-6)


def test_a_loss_learns_its_projection_too():
    """A student half as wide: the kernel between the two moves with the update, on one device and on eight."""
    after = []
    for mesh in (one_device(), make_mesh()):
        step, state, teachers = setup({"hidden": HiddenMSE()}, mesh=mesh, student=NARROW)
        rows = jax.device_put(stack(make_rows(), 1), row_sharding(mesh))
        got, _ = step(state, teachers, rows)
        before, kernel = (s.params["losses"]["hidden"]["kernel"] for s in (state, got))
        assert kernel.shape == (NARROW.hidden_size, TEACHER.hidden_size)
        assert np.abs(kernel - before).max() > 1e-4
        after.append(jax.device_get(got.params))
    assert_close(*after, rtol=1e-4, atol=2e-6)


def test_a_mean_of_means_would_be_seen():
    """Four short rows and four long ones: each half's own mean weighs its words differently."""
    step, state, teachers = setup()
    rows = make_rows()
    short = (jnp.arange(8) < 4)[:, None] & (jnp.arange(16) > 2)[None]
    rows = dataclasses.replace(rows, segment_ids=jnp.where(short, 0, rows.segment_ids))
    whole = step(state, teachers, stack(rows, 1))[1]["loss/hard"]
    halves = [step(state, teachers, jax.tree.map(lambda x, i=i: x[None, i : i + 4], rows))[1] for i in (0, 4)]
    assert abs(np.mean([half["loss/hard"] for half in halves]) / whole - 1) > 1e-3  # fifty times the tolerance above


def test_gradients_cross_devices_once_an_update():
    """No reduction in the loop over blocks of the vocabulary, none in the loop over micro-batches."""
    mesh = make_mesh()
    step, state, teachers = setup(mesh=mesh)
    rows = jax.device_put(stack(make_rows(b=32), 4), row_sharding(mesh))
    text = step.lower(state, teachers, rows).compile().as_text()
    loops = {name for line in text.splitlines() if " while(" in line for name in re.findall(r"body=%?([\w.\-]+)", line)}
    computation, inside, reductions = "", [], []
    for line in text.splitlines():
        if opened := re.match(r"(?:ENTRY )?%?([\w.\-]+) \(", line):
            computation = opened.group(1)
        if re.search(r"\b(all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(-start)?\(", line):
            reductions.append(line)
            if computation in loops:
                inside.append(line)
    assert loops, "the loops were not found"
    assert not inside
    assert 1 <= len(reductions) <= 3, len(reductions)  # sums of weights, and gradients with metrics


def test_the_compiled_step_needs_an_eighth_of_the_arithmetic_on_each_of_eight_devices():
    def flops(mesh):
        return setup(mesh=mesh)[0].lower(*_arguments(mesh)).compile().cost_analysis()["flops"]

    assert flops(make_mesh()) < 0.2 * flops(one_device())


def _arguments(mesh):
    _, state, teachers = setup(mesh=mesh)
    return state, teachers, jax.device_put(stack(make_rows(b=32, t=16), 1), row_sharding(mesh))


@pytest.mark.parametrize("name", LOSSES)
def test_padding_does_not_matter(name):
    step, state, teachers = setup({name: LOSSES[name]})
    rows = make_rows()
    noise = jax.random.randint(jax.random.key(9), rows.tokens.shape, 3, VOCABULARY)
    other = dataclasses.replace(rows, tokens=jnp.where(rows.segment_ids > 0, rows.tokens, noise))
    (a, before), (b, after) = (step(state, teachers, stack(r, 1)) for r in (rows, other))
    assert_close(before, after, rtol=1e-6)

    def words(s):
        return s.params["student"]["encoder"]["words"]["embedding"]

    np.testing.assert_allclose(words(a), words(b), atol=1e-6)


def test_a_teacher_has_no_dropout_and_gets_no_gradient():
    """The student of the same weights, dropout off, has nothing to learn from it: the teacher is in evaluation mode."""
    quiet = dataclasses.replace(TEACHER, dropout=0.0, attention_dropout=0.0, attention_output_dropout=0.0)
    losses = {"soft": SoftTargets(), "cosine": HiddenCosine()}
    _, _, teachers = setup()
    step, _, _ = setup(losses, student=quiet)
    params = {"student": teachers["teacher"], "losses": {"soft": {}, "cosine": {}}}
    state = TrainState(
        step=jnp.array(0), params=params, opt_state=optax.sgd(1.0).init(params), nonfinite_steps=jnp.array(0)
    )
    measured = step(state, teachers, stack(make_rows(), 1))[1]
    np.testing.assert_allclose(measured["loss"], 0.0, atol=2e-6)
    np.testing.assert_allclose(measured["grad_norm"], 0.0, atol=1e-5)


def test_dropout_is_on_for_the_student():
    quiet = dataclasses.replace(STUDENT, dropout=0.0, attention_dropout=0.0, attention_output_dropout=0.0)
    step, state, teachers = setup(student=quiet)
    without = step(state, teachers, stack(make_rows(), 1))[1]
    assert abs(without["loss/cosine"] / reference()[1]["loss/cosine"] - 1) > 1e-4


def test_every_kind_of_dropout_reaches_the_loss():
    for kind in ("dropout", "attention_dropout", "attention_output_dropout"):
        rates = {"dropout": 0.0, "attention_dropout": 0.0, "attention_output_dropout": 0.0, kind: 0.3}
        config = dataclasses.replace(STUDENT, **rates)
        batch, params = plain(make_rows()), {"params": random_params(STUDENT, 1)}
        apply = jax.jit(MaskedLM(config).apply)
        noisy = apply(params, batch, keys=row_keys(0, batch, DROPOUT_KEY)).hidden_states[-1]
        assert np.abs(noisy - apply(params, batch).hidden_states[-1]).max() > 1e-3, kind


def test_a_row_has_the_same_randomness_wherever_and_whenever_it_comes():
    rows = make_rows()
    later = jax.tree.map(lambda x: x[jnp.asarray([5, 2])], rows)
    assert_same(
        jax.random.key_data(row_keys(7, rows, DROPOUT_KEY))[jnp.asarray([5, 2])],
        jax.random.key_data(row_keys(7, later, DROPOUT_KEY)),
    )
    other = dataclasses.replace(rows, epochs=rows.epochs + 1)
    assert (
        jax.random.key_data(row_keys(7, rows, DROPOUT_KEY)) != jax.random.key_data(row_keys(7, other, DROPOUT_KEY))
    ).any()


def test_asking_everywhere_or_at_the_masked_words_gives_the_same_hard_loss():
    values = []
    for everywhere in (True, False):
        step, state, teachers = setup({"hard": HardTargets()}, ask=masked(everywhere=everywhere))
        values.append(float(step(state, teachers, stack(make_rows(), 1))[1]["loss"]))
    np.testing.assert_allclose(*values, rtol=1e-5)


def test_one_more_loss_does_not_change_the_others():
    step, state, teachers = setup({"hard": HardTargets(weight=2.0)})
    alone = step(state, teachers, stack(make_rows(), 1))[1]
    np.testing.assert_allclose(alone["loss/hard"], reference()[1]["loss/hard"], rtol=1e-5)
    total = sum(loss.weight * reference()[1][f"loss/{name}"] for name, loss in LOSSES.items())
    np.testing.assert_allclose(reference()[1]["loss"], total, rtol=1e-6)


def test_an_update_that_is_not_finite_is_left_out_and_counted():
    step, state, teachers = setup(tx=optax.adamw(1e-3))
    broken = jax.tree.map(lambda x: x * jnp.nan, teachers)
    after, measured = step(state, broken, stack(make_rows(), 1))
    assert not np.isfinite(measured["loss/soft"])
    assert np.isfinite(measured["loss/hard"])  # so the log can name the loss that turned
    assert (int(after.nonfinite_steps), int(after.step), int(measured["nonfinite_steps"])) == (1, 1, 1)
    assert_same(after.params, state.params)
    assert_same(after.opt_state, state.opt_state)


def test_what_is_only_watched_is_left_out_alike():
    """The host stops at any metric that is not finite, and says that the update was left out: so it is."""
    step, state, teachers = setup({"hard": HardTargets()}, tx=optax.adamw(1e-3))
    broken = jax.tree.map(lambda x: x * jnp.nan, teachers)
    after, measured = step(state, broken, stack(make_rows(), 1))
    assert np.isfinite(measured["loss"])
    assert np.isfinite(measured["grad_norm"])
    assert not np.isfinite(measured["teacher_entropy"])
    assert int(after.nonfinite_steps) == 1
    assert_same(after.params, state.params)


def test_the_loss_falls():
    step, state, teachers = setup(tx=optax.adamw(1e-2))
    first = None
    for _ in range(40):
        state, measured = step(state, teachers, stack(make_rows(), 1))
        first = first or float(measured["loss"])
    assert float(measured["loss"]) < 0.7 * first


def test_jit_prunes_what_no_loss_reads():
    """A hard loss alone costs no teacher, and nothing for q, k, v and the hidden states it hands out."""
    _, state, teachers = setup({"hard": HardTargets()})

    def compiled(strip):
        def apply(*a, **k):
            return strip(MaskedLM(STUDENT).apply(*a, **k))

        hard = Objective(student=apply, teachers={}, losses={"hard": HardTargets()}, make_batch=masked(), seed=7)
        step = make_train_step(make_gradients(hard, one_device()), optax.sgd(1.0), one_device())
        return jax.jit(step).lower(state, teachers, stack(make_rows(), 1)).compile()

    full = compiled(lambda outputs: outputs)
    bare = compiled(
        lambda outputs: dataclasses.replace(outputs, hidden_states=(), q=(), k=(), v=(), attention_mask=None)
    )
    assert full.memory_analysis().temp_size_in_bytes == bare.memory_analysis().temp_size_in_bytes
    assert full.cost_analysis()["flops"] == bare.cost_analysis()["flops"]


def test_split():
    assert split_batch(2_048, per_device_batch_size=32, num_devices=8) == (8, 256)
    assert split_batch(96, per_device_batch_size=32, num_devices=2) == (2, 48)
    assert split_batch(8, per_device_batch_size=32, num_devices=8) == (1, 8)
    with pytest.raises(ValueError, match="is not divisible by 8 devices: choose a multiple of 8"):
        split_batch(12, per_device_batch_size=4, num_devices=8)
