"""Tests that a long text, read in windows, counts as much in an epoch of fine-tuning as a short one."""

import csv
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.config.finetune import default_finetune_config
from distilbert_jax.data.batches import BatchLayout
from distilbert_jax.data.tasks import registry
from distilbert_jax.data.tasks.batches import TaskBatches
from distilbert_jax.devices.mesh import make_mesh, put_batch
from distilbert_jax.losses.base import LogitLoss
from distilbert_jax.train.finetune import setup
from distilbert_jax.train.objective import Objective
from distilbert_jax.train.step import make_gradients
from distilbert_jax.types import Batch, ModelOutputs
from tests.reliability import harness

BATCH_SIZE, NUM_TEXTS, NUM_LONG = 8, 90, 3
LAYOUT = BatchLayout(accumulation=2, rows=4)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A task of short texts, and a few of about twenty windows."""
    folder = tmp_path_factory.mktemp("texts")
    short, long = "the cat sees a dog", " ".join(["the bird sees a red stone"] * 35)
    for split, count in (("train", NUM_TEXTS), ("dev", 4)):
        rows = [(long if i < NUM_LONG else short, "red" if i % 2 else "green") for i in range(count)]
        with open(folder / f"{split}.csv", "w", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *rows])
    return registry.find_task("texts", folder), str(folder)


@pytest.fixture(scope="module")
def prepared(texts, shallow_distilbert_folder, tmp_path_factory):
    """The fine-tuning of a small model on this task, in windows of 16 tokens."""
    task, folder = texts
    model = harness.learner(tmp_path_factory.mktemp("models") / "learner", shallow_distilbert_folder)
    config_file = model / "config.json"
    config_file.write_text(json.dumps(json.loads(config_file.read_text()) | {"seq_classif_dropout": 0.0}))
    config = default_finetune_config(task, task_dir=folder, model=Pretrained(str(model)))
    config = dataclasses.replace(
        config, epochs=1, batch_size=BATCH_SIZE, max_length=16, window_overlap=3, dropout=0.0, per_device_batch_size=4
    )
    with pytest.MonkeyPatch.context() as patched:
        mesh = make_mesh(devices=jax.devices()[:1])
        patched.setattr(setup, "make_mesh", lambda: mesh)
        return setup.setup_finetuning(setup.load_inputs(config, task))


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneLogit(LogitLoss):
    """The logit itself, so that its gradient is the factor with which a prediction enters the objective."""

    def weights(self, batch):
        return batch.label_weights

    def values_from_logits(self, student_logits, teacher_logits, labels):
        return student_logits[..., 0]


def weights_in_an_epoch(rows, *, is_fixed, seed=0):
    """Returns how much each text counts in an epoch: the sum of the gradients of its rows' logits over all steps."""
    losses = {"hard": OneLogit()}
    batches = TaskBatches(rows=rows, seed=seed, batch_size=BATCH_SIZE, layout=LAYOUT)

    def apply(variables, batch, *, keys=None):
        logits = variables["params"]["logits"][batch.row_ids][:, None, None]
        return ModelOutputs(batch=batch, logits=logits, hidden_states=(), q=(), k=(), v=(), attention_mask=None)

    objective = Objective(
        student=apply,
        teachers={},
        losses=losses,
        make_batch=lambda keys, batch: batch,
        seed=0,
        fixed_weight_sums=setup.mean_weight_sums(losses, batches) if is_fixed else {},
    )
    mesh = make_mesh(devices=jax.devices()[:1])
    compute_gradients = jax.jit(make_gradients(objective, mesh))
    params = {"student": {"logits": jnp.zeros(len(rows))}, "losses": {"hard": {}}}
    per_row = np.zeros(len(rows))
    for arrays in batches.iter_epoch(0):
        per_row += compute_gradients(params, {}, Batch(**put_batch(arrays, mesh)))[0]["student"]["logits"]
    return np.bincount([row.example for row in rows], weights=per_row)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_long_text_counts_as_much_as_a_short_one(prepared, seed):
    rows = prepared.train.encoded.rows
    assert sum(row.example == 0 for row in rows) > 15
    weights = weights_in_an_epoch(rows, is_fixed=True, seed=seed)
    np.testing.assert_allclose(weights, weights[-1], rtol=1e-5)
    steps = -(-len(rows) // BATCH_SIZE)
    np.testing.assert_allclose(weights.sum(), steps, rtol=1e-5)  # in a mean step, the factors sum to 1


def test_dividing_by_the_sum_of_each_batch_would_be_noticed(prepared):
    weights = weights_in_an_epoch(prepared.train.encoded.rows, is_fixed=False)
    assert weights[:NUM_LONG].min() > 5 * np.median(weights)


def test_the_step_divides_by_the_mean_number_of_texts(prepared):
    """The loss of each step in float64: Σ w · cross entropy / (texts per step)."""
    batches = TaskBatches(rows=prepared.train.encoded.rows, seed=0, batch_size=BATCH_SIZE, layout=prepared.layout)
    state = prepared.init_state(0)
    texts_per_step = NUM_TEXTS / len(batches)
    assert prepared.steps == len(batches)
    for arrays in list(batches.iter_epoch(0))[:3]:
        batch = Batch(**put_batch(arrays, prepared.mesh))
        logits = np.asarray(prepared.predict_step(state.params["student"], batch), float)
        labels, weights = jnp.asarray(arrays["labels"]), arrays["label_weights"]
        losses = optax.softmax_cross_entropy_with_integer_labels(jnp.asarray(logits, jnp.float32), labels)
        expected = (weights * np.asarray(losses, float)).sum() / texts_per_step
        state, metrics = prepared.train_step(state, {}, batch, 0)
        np.testing.assert_allclose(metrics["loss/hard"], expected, rtol=1e-4)


def test_without_windows_a_loss_is_the_mean_of_its_batch(prepared):
    """Texts that are cut have one row each, and the denominator is their number in the batch, as it always was."""
    cut = [dataclasses.replace(row, prediction_weights=np.ones(1, np.float32)) for row in prepared.train.encoded.rows]
    split = dataclasses.replace(prepared.train, encoded=dataclasses.replace(prepared.train.encoded, rows=cut))
    assert setup.shares_weights(prepared.train)
    assert not setup.shares_weights(split)
