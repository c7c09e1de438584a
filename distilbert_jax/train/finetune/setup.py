"""What fine-tuning on one task turns, whatever the seed: the models, the rows, and the two compiled functions."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from distilbert_jax import log_keys
from distilbert_jax.config.finetune import FineTuneConfig
from distilbert_jax.data.batches import BatchLayout
from distilbert_jax.data.tasks.registry import Task
from distilbert_jax.data.tasks.task_types.base import EncodedExamples, TaskTokenizer, TaskType
from distilbert_jax.devices.mesh import make_mesh, split_batch
from distilbert_jax.hub.load import PretrainedModel, load_pretrained, parameter_shapes
from distilbert_jax.inference.logits import PredictStep, make_predict_step
from distilbert_jax.losses.base import init_loss_params
from distilbert_jax.models import cost_model, student_init
from distilbert_jax.train.finetune.models import load_teacher, make_apply, match_labels
from distilbert_jax.train.objective import Objective
from distilbert_jax.train.step import init_train_state, make_gradients, make_train_step
from distilbert_jax.types import TrainState

SAMPLE_SEED = 20_191_002  # of a sample of the training examples: the same for every model and seed


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodedSplit:
    """Examples and their rows."""

    examples: Sequence[Any]
    encoded: EncodedExamples


@dataclasses.dataclass(frozen=True, kw_only=True)
class FineTuneSetup:
    """`start` gives the state at the first step of a seed; `train_step` is that of pretraining, with the seed as a
    last argument, so that it is compiled once for all.
    """

    config: FineTuneConfig
    task_type: TaskType
    model: PretrainedModel
    new_layers: tuple[str, ...]
    teacher: PretrainedModel | None
    train: EncodedSplit
    dev: Mapping[str, EncodedSplit]
    mesh: Mesh
    layout: BatchLayout
    steps: int  # of all epochs
    init_state: Callable[[int], TrainState]
    parameters: int
    train_step: Callable[..., Any]
    predict_step: PredictStep

    def flops(self, batch: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Of one update, by the name of the log; heads of tasks are too small to count."""
        *rows, length = batch["tokens"].shape
        theirs = self.teacher.config if self.teacher else None
        of_update = cost_model.update_flops(
            self.model.config, theirs, rows=math.prod(rows), length=length, num_predictions=0
        )
        return {log_keys.MFU.name: float(of_update)}


def setup_finetuning(plan: FineTuneConfig, task: Task) -> FineTuneSetup:
    """Reads everything. ValueError where model, teacher and task do not fit together."""
    form, mesh = task.task_type, make_mesh()
    examples = _sample(task.read("train"), plan.max_train_examples)
    model = match_labels(load_pretrained(plan.model, head=form.head), form)
    if plan.random_init:
        model = dataclasses.replace(model, params={}, has_head=False)
    teacher = load_teacher(plan.teacher, model, form, plan) if plan.teacher else None
    reading = make_task_tokenizer(model, max_length=plan.max_length, windows=plan.window_overlap)
    train = EncodedSplit(examples=examples, encoded=form.encode(examples, reading))
    dev = {name: load_split(task, name, reading) for name in task.dev}
    _demand_labels({} if plan.teacher else {"train": train}, dev)

    whole = -(-plan.batch_size // mesh.size) * mesh.size  # with empty rows, where the devices are no divisor
    accumulation, rows = split_batch(whole, per_device_batch_size=plan.per_device_batch_size, num_devices=mesh.size)
    steps = plan.epochs * -(-len(train.encoded.rows) // plan.batch_size)
    tx = plan.optimizer.make_transformation(steps)
    like = parameter_shapes(model.config, form.head, model.head_config)
    apply = make_apply(model, plan, "student")
    teachers = {"teacher": make_apply(teacher, plan, "teacher")} if teacher else {}

    theirs = teacher.config.hidden_size if teacher else None

    def of_seed(seed: int) -> TrainState:
        student, _ = student_init.add_missing_params(model.params, like, seed=seed)
        losses = init_loss_params(plan.losses, seed=seed, student_size=model.config.hidden_size, teacher_size=theirs)
        return init_train_state({"student": student, "losses": losses}, tx, mesh)

    def train_step(state, teacher_params, batch, seed):
        ask = lambda keys, batch: batch  # what a task asks is in its rows
        objective = Objective(student=apply, teachers=teachers, losses=plan.losses, make_batch=ask, seed=seed)
        return make_train_step(make_gradients(objective, mesh), tx, mesh)(state, teacher_params, batch)

    return FineTuneSetup(
        config=plan,
        task_type=form,
        model=model,
        new_layers=student_init.add_missing_params(model.params, like, seed=0)[1],
        teacher=teacher,
        train=train,
        dev=dev,
        mesh=mesh,
        layout=BatchLayout(accumulation=accumulation, rows=rows),
        steps=steps,
        init_state=of_seed,
        parameters=sum(x.size for x in jax.tree.leaves(like)),
        train_step=jax.jit(train_step, donate_argnums=0),
        predict_step=make_predict_step(apply, mesh),
    )


def make_task_tokenizer(model: PretrainedModel, *, max_length: int, windows: int | None) -> TaskTokenizer:
    """ValueError for documents longer than the model's positions."""
    if max_length > model.config.max_positions:
        raise ValueError(f"max_length is {max_length}, but {model.folder} has {model.config.max_positions} positions")
    return TaskTokenizer(tokenizer=model.tokenizer, max_length=max_length, window_overlap=windows)


def load_split(task: Task, name: str, reading: TaskTokenizer) -> EncodedSplit:
    examples = task.read(name)
    return EncodedSplit(examples=examples, encoded=task.task_type.encode(examples, reading))


def has_labels(split: EncodedSplit) -> bool:
    """Whether all that is asked has an answer."""
    return all(np.array_equal(row.label_weights > 0, row.prediction_weights > 0) for row in split.encoded.rows)


def _demand_labels(train: Mapping[str, EncodedSplit], dev: Mapping[str, EncodedSplit]) -> None:
    for name, data in {**train, **dev}.items():
        if not has_labels(data):
            mend = "measured" if name in dev else "learned from without --teacher"
            raise ValueError(f"{name} has examples without a label, so it cannot be {mend}")


def _sample(examples: Sequence[Any], count: int | None) -> Sequence[Any]:
    """The same examples for every model and seed, in the order of the file."""
    if count is None or count >= len(examples):
        return examples
    chosen = np.random.default_rng(SAMPLE_SEED).permutation(len(examples))[:count]
    return [examples[i] for i in np.sort(chosen).tolist()]
