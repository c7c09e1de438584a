"""Sets up fine-tuning on one task, for all seeds: the models, the encoded examples and the jitted functions."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from distilbert_jax import log_keys
from distilbert_jax.config.experiment_file import flatten
from distilbert_jax.config.finetune import FineTuneConfig
from distilbert_jax.data.batches import BatchLayout
from distilbert_jax.data.tasks.batches import TaskBatches
from distilbert_jax.data.tasks.registry import Task
from distilbert_jax.data.tasks.split_hashes import hash_split
from distilbert_jax.data.tasks.task_types.base import EncodedExamples, TaskTokenizer, TaskType
from distilbert_jax.devices.mesh import make_mesh, split_batch
from distilbert_jax.hub.load import PretrainedModel, load_pretrained, parameter_shapes
from distilbert_jax.inference.logits import PredictStep, make_predict_step
from distilbert_jax.losses.base import LogitLoss, Loss, init_loss_params, sum_weights
from distilbert_jax.models import cost_model, student_init
from distilbert_jax.train.finetune.models import format_label_mismatch, load_teacher, make_apply, match_labels
from distilbert_jax.train.finetune.results import FINETUNE_FORMAT, ResultOrigin
from distilbert_jax.train.objective import Objective
from distilbert_jax.train.step import init_train_state, make_gradients, make_train_step
from distilbert_jax.types import Batch, TrainState

SAMPLE_SEED = 20_191_002
"""Seed of the sample of training examples that `max_train_examples` takes: the same for every model and seed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodedSplit:
    """The examples of a split, and the token rows that they were encoded into."""

    examples: Sequence[Any]
    encoded: EncodedExamples


@dataclasses.dataclass(frozen=True, kw_only=True)
class FineTuneInputs:
    """What is loaded for a fine-tuning: its models and its examples.

    Attributes:
        config: the settings.
        task: the task.
        model: the model to fine-tune, with the labels of the task.
        removed_output_layer: why the model's own output layer does not fit the task; None if it does, or if the model
            has none.
        teacher: the teacher, or None.
        examples: the examples by split: those to train on, the dev splits, and the test splits.
    """

    config: FineTuneConfig
    task: Task
    model: PretrainedModel
    removed_output_layer: str | None
    teacher: PretrainedModel | None
    examples: Mapping[str, Sequence[Any]]

    @functools.cached_property
    def origin(self) -> ResultOrigin:
        """What a result of these inputs is made from: the settings, and the hashes of models and examples."""
        models = {"model": self.model} | ({"teacher": self.teacher} if self.teacher else {})
        return ResultOrigin(
            format=FINETUNE_FORMAT,
            config=flatten(self.config),
            sha256={
                f"{name}{part}": sha256 for name, model in models.items() for part, sha256 in model.file_hashes.items()
            },
            examples={
                name: hash_split(examples, self.task.task_type.labels) for name, examples in self.examples.items()
            },
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FineTuneSetup:
    """Everything that the seeds of a fine-tuning have in common.

    Attributes:
        inputs: the models, and the examples.
        config: the settings.
        task_type: how examples become rows, and logits become answers.
        model: the model to fine-tune, with the labels of the task.
        new_layers: the names of the layers that start untrained.
        teacher: the teacher, or None.
        train: the training examples.
        dev: the splits for evaluation after each epoch, by name.
        test: the splits that the best model is evaluated on once, by name.
        mesh: the devices.
        layout: the shape of a batch: micro-batches and rows.
        steps: the number of updates in all epochs together.
        init_state: returns the state of a seed before its first update.
        parameters: the number of parameters of encoder and head.
        train_step: (state, teacher parameters, batch, seed) -> (state, metrics). The seed is an argument, so that the
            step is compiled once for all seeds. The state is donated.
        predict_step: the jitted forward pass for evaluation.
    """

    inputs: FineTuneInputs
    config: FineTuneConfig
    task_type: TaskType
    model: PretrainedModel
    new_layers: tuple[str, ...]
    teacher: PretrainedModel | None
    train: EncodedSplit
    dev: Mapping[str, EncodedSplit]
    test: Mapping[str, EncodedSplit]
    mesh: Mesh
    layout: BatchLayout
    steps: int
    init_state: Callable[[int], TrainState]
    parameters: int
    train_step: Callable[..., Any]
    predict_step: PredictStep

    def flops(self, batch: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns the floating point operations of one update, by log key. The head is too small to be counted."""
        *rows, length = batch["tokens"].shape
        teacher_config = self.teacher.config if self.teacher else None
        flops = cost_model.update_flops(
            self.model.config, teacher_config, rows=math.prod(rows), length=length, num_predictions=0
        )
        return {log_keys.MFU.name: float(flops)}


def load_inputs(config: FineTuneConfig, task: Task) -> FineTuneInputs:
    """Loads the models and reads the examples.

    Raises:
        ValueError: a file is missing or damaged, or model, teacher and task do not fit together.
    """
    task_type = task.task_type
    examples = {"train": _sample(task.read("train"), config.max_train_examples)}
    loaded = load_pretrained(config.model, head=task_type.head)
    model = match_labels(loaded, task_type)
    removed = format_label_mismatch(loaded, task_type) if loaded.has_head and not model.has_head else None
    if config.random_init:
        model = dataclasses.replace(model, params={}, has_head=False)
    return FineTuneInputs(
        config=config,
        task=task,
        model=model,
        removed_output_layer=removed,
        teacher=load_teacher(config.teacher, model, task_type, config) if config.teacher else None,
        examples=examples | {name: task.read(name) for name in (*task.dev, *task.test)},
    )


def setup_finetuning(inputs: FineTuneInputs) -> FineTuneSetup:
    """Encodes the examples and makes the jitted functions.

    Raises:
        ValueError: the settings do not fit the model, or an example has no label.
    """
    config, task_type, model, teacher = inputs.config, inputs.task.task_type, inputs.model, inputs.teacher
    mesh = make_mesh()
    tokenizer = make_task_tokenizer(model, max_length=config.max_length, window_overlap=config.window_overlap)
    splits = {name: encode_split(task_type, examples, tokenizer) for name, examples in inputs.examples.items()}
    train = splits.pop("train")
    _check_labels({} if config.teacher else {"train": train}, splits)

    batches = _make_batches(config, train, mesh)
    steps = config.epochs * len(batches)
    tx = config.optimizer.make_transformation(steps)
    shapes = parameter_shapes(model.config, task_type.head, model.head_config)
    apply = make_apply(model, config, "student")
    teachers = {"teacher": make_apply(teacher, config, "teacher")} if teacher else {}

    fixed_weight_sums = mean_weight_sums(config.losses, batches) if shares_weights(train) else {}
    teacher_size = teacher.config.hidden_size if teacher else None

    def init_state(seed: int) -> TrainState:
        student, _ = student_init.add_missing_params(model.params, shapes, seed=seed)
        losses = init_loss_params(
            config.losses, seed=seed, student_size=model.config.hidden_size, teacher_size=teacher_size
        )
        return init_train_state({"student": student, "losses": losses}, tx, mesh)

    def make_objective(seed: Any) -> Objective:
        return Objective(
            student=apply,
            teachers=teachers,
            losses=config.losses,
            make_batch=lambda keys, batch: batch,  # the rows of a task already hold their labels
            seed=seed,
            fixed_weight_sums=fixed_weight_sums,
        )

    return FineTuneSetup(
        inputs=inputs,
        config=config,
        task_type=task_type,
        model=model,
        new_layers=student_init.add_missing_params(model.params, shapes, seed=0)[1],
        teacher=teacher,
        train=train,
        dev={name: splits[name] for name in inputs.task.dev},
        test={name: splits[name] for name in inputs.task.test},
        mesh=mesh,
        layout=batches.layout,
        steps=steps,
        init_state=init_state,
        parameters=sum(x.size for x in jax.tree.leaves(shapes)),
        train_step=_make_seeded_train_step(make_objective, tx, mesh),
        predict_step=make_predict_step(apply, mesh),
    )


def _make_batches(config: FineTuneConfig, train: EncodedSplit, mesh: Mesh) -> TaskBatches:
    """Returns the training batches of seed 0."""
    # If the batch size is not divisible by the number of devices, empty rows fill the batch.
    padded_batch_size = -(-config.batch_size // mesh.size) * mesh.size
    accumulation, rows = split_batch(
        padded_batch_size, per_device_batch_size=config.per_device_batch_size, num_devices=mesh.size
    )
    layout = BatchLayout(accumulation=accumulation, rows=rows)
    return TaskBatches(rows=train.encoded.rows, seed=0, batch_size=config.batch_size, layout=layout)


def _make_seeded_train_step(
    make_objective: Callable[[Any], Objective], tx: optax.GradientTransformation, mesh: Mesh
) -> Callable[..., Any]:
    """Returns the jitted training step whose seed is an argument, so that it is compiled once for all seeds."""

    def train_step(state, teacher_params, batch, seed):
        return make_train_step(make_gradients(make_objective(seed), mesh), tx, mesh)(state, teacher_params, batch)

    return jax.jit(train_step, donate_argnums=0)


def make_task_tokenizer(model: PretrainedModel, *, max_length: int, window_overlap: int | None) -> TaskTokenizer:
    """Returns the tokenizer of a model for the examples of a task.

    Args:
        model: the model, whose tokenizer is used.
        max_length: the largest number of tokens in a row.
        window_overlap: the number of tokens that two neighbouring windows of a long text share. If it is None, a long
            text is cut.

    Raises:
        ValueError: `max_length` is larger than the number of positions of the model.
    """
    if max_length > model.config.max_positions:
        raise ValueError(
            f"max_length is {max_length}, but {model.folder} has {model.config.max_positions} positions; "
            f"set max_length to at most {model.config.max_positions}"
        )
    return TaskTokenizer(tokenizer=model.tokenizer, max_length=max_length, window_overlap=window_overlap)


def encode_split(task_type: TaskType, examples: Sequence[Any], tokenizer: TaskTokenizer) -> EncodedSplit:
    """Returns the examples of a split with their rows."""
    return EncodedSplit(examples=examples, encoded=task_type.encode(examples, tokenizer))


def mean_weight_sums(losses: Mapping[str, Loss], batches: TaskBatches) -> dict[str, float]:
    """Returns the sum of the weights of each loss on logits, averaged over the steps of an epoch, by name.

    The windows of a long text share a weight of 1, and rows of similar length share a batch. The weights of a batch of
    windows therefore sum to little, and divided by that sum, each window would count about as much as a short text.
    Divided by the same number in every step, the mean number of texts, each text counts once in an epoch.
    """
    logit_losses = {name: loss for name, loss in losses.items() if isinstance(loss, LogitLoss)}
    totals = dict.fromkeys(logit_losses, 0.0)
    for arrays in batches.iter_epoch(0):
        batch = Batch(**jax.tree.map(jnp.asarray, arrays))
        for name, weight_sum in sum_weights(logit_losses, batch).items():
            totals[name] += float(weight_sum)
    return {name: total / len(batches) for name, total in totals.items()}


def shares_weights(split: EncodedSplit) -> bool:
    """Returns whether a text of the split is read in several windows that share its weight."""
    return any(((row.prediction_weights > 0) & (row.prediction_weights < 1)).any() for row in split.encoded.rows)


def has_labels(split: EncodedSplit) -> bool:
    """Returns whether every prediction of a split has a label."""
    return all(np.array_equal(row.label_weights > 0, row.prediction_weights > 0) for row in split.encoded.rows)


def _check_labels(train: Mapping[str, EncodedSplit], evaluated: Mapping[str, EncodedSplit]) -> None:
    """Raises ValueError if an example of one of these splits has no label."""
    for name, split in {**train, **evaluated}.items():
        if not has_labels(split):
            purpose = "used for evaluation" if name in evaluated else "used for training without --teacher"
            raise ValueError(
                f"{name} has examples without a label, the first in {_locate_first_unlabelled(split)}, so it cannot be "
                f"{purpose}; add the labels or remove the examples"
            )


def _locate_first_unlabelled(split: EncodedSplit) -> str:
    """Returns the file and line of the first example that lacks a label; its number if the file is not known."""
    number = next(
        row.example
        for row in split.encoded.rows
        if not np.array_equal(row.label_weights > 0, row.prediction_weights > 0)
    )
    return split.examples[number].location or f"example {number + 1}"


def _sample(examples: Sequence[Any], count: int | None) -> Sequence[Any]:
    """Returns a random sample of `count` examples in the order of the file, or all of them if `count` is None.

    The sample is the same for every model and seed.
    """
    if count is None or count >= len(examples):
        return examples
    chosen = np.random.default_rng(SAMPLE_SEED).permutation(len(examples))[:count]
    return [examples[i] for i in np.sort(chosen).tolist()]
