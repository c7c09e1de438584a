"""What fine-tuning on one task turns, whatever the seed: the models, the rows, and the two compiled functions."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from distilbert_jax import log_keys
from distilbert_jax.config.finetune import FineTune
from distilbert_jax.data.batches import Layout
from distilbert_jax.data.tasks.registry import Task
from distilbert_jax.data.tasks.task_types.base import Encoded, Form, Reading
from distilbert_jax.devices.mesh import make_mesh, split
from distilbert_jax.hub.load import Model, parameter_shapes, read
from distilbert_jax.inference.logits import Scorer, make_scorer
from distilbert_jax.losses.base import first_params
from distilbert_jax.models import cost_model, student_init
from distilbert_jax.train.finetune.models import make_apply, read_teacher, with_labels
from distilbert_jax.train.objective import Objective
from distilbert_jax.train.step import make_gradients, make_train_step, start
from distilbert_jax.types import TrainState

SAMPLE_SEED = 20_191_002  # of a sample of the training examples: the same for every model and seed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """Examples and their rows."""

    examples: Sequence[Any]
    encoded: Encoded


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tuning:
    """`start` gives the state at the first step of a seed; `train_step` is that of pretraining, with the seed as a
    last argument, so that it is compiled once for all.
    """

    plan: FineTune
    form: Form
    model: Model
    new_layers: tuple[str, ...]
    teacher: Model | None
    train: Split
    dev: Mapping[str, Split]
    mesh: Mesh
    layout: Layout
    steps: int  # of all epochs
    start: Callable[[int], TrainState]
    parameters: int
    train_step: Callable[..., Any]
    scorer: Scorer

    def flops(self, batch: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Of one update, by the name of the log; heads of tasks are too small to count."""
        *rows, length = batch["tokens"].shape
        theirs = self.teacher.cfg if self.teacher else None
        of_update = cost_model.of_update(self.model.cfg, theirs, rows=math.prod(rows), length=length, places=0)
        return {log_keys.MFU.name: float(of_update)}


def build(plan: FineTune, task: Task) -> Tuning:
    """Reads everything. ValueError where model, teacher and task do not fit together."""
    form, mesh = task.form, make_mesh()
    examples = _sample(task.read("train"), plan.examples)
    model = with_labels(read(plan.model, head=form.head), form)
    if plan.random_start:
        model = dataclasses.replace(model, params={}, has_head=False)
    teacher = read_teacher(plan.teacher, model, form, plan) if plan.teacher else None
    reading = make_reading(model, max_length=plan.max_length, windows=plan.windows)
    train = Split(examples=examples, encoded=form.rows(examples, reading))
    dev = {name: read_split(task, name, reading) for name in task.dev}
    _demand_labels({} if plan.teacher else {"train": train}, dev)

    whole = -(-plan.batch // mesh.size) * mesh.size  # with empty rows, where the devices are no divisor
    accumulation, rows = split(whole, rows_per_device=plan.rows_per_device, devices=mesh.size)
    steps = plan.epochs * -(-len(train.encoded.rows) // plan.batch)
    tx = plan.optimizer.transformation(steps)
    like = parameter_shapes(model.cfg, form.head, model.head_cfg)
    apply = make_apply(model, plan, "student")
    teachers = {"teacher": make_apply(teacher, plan, "teacher")} if teacher else {}

    theirs = teacher.cfg.hidden_size if teacher else None

    def of_seed(seed: int) -> TrainState:
        student, _ = student_init.complete(model.params, like, seed=seed)
        losses = first_params(plan.losses, seed=seed, student_size=model.cfg.hidden_size, teacher_size=theirs)
        return start({"student": student, "losses": losses}, tx, mesh)

    def train_step(state, teacher_params, batch, seed):
        ask = lambda keys, batch: batch  # what a task asks is in its rows
        objective = Objective(student=apply, teachers=teachers, losses=plan.losses, ask=ask, seed=seed)
        return make_train_step(make_gradients(objective, mesh), tx, mesh)(state, teacher_params, batch)

    return Tuning(
        plan=plan,
        form=form,
        model=model,
        new_layers=student_init.complete(model.params, like, seed=0)[1],
        teacher=teacher,
        train=train,
        dev=dev,
        mesh=mesh,
        layout=Layout(accumulation=accumulation, rows=rows),
        steps=steps,
        start=of_seed,
        parameters=sum(x.size for x in jax.tree.leaves(like)),
        train_step=jax.jit(train_step, donate_argnums=0),
        scorer=make_scorer(apply, mesh),
    )


def make_reading(model: Model, *, max_length: int, windows: int | None) -> Reading:
    """ValueError for documents longer than the model's positions."""
    if max_length > model.cfg.max_tokens:
        raise ValueError(f"max_length is {max_length}, but {model.folder} has {model.cfg.max_tokens} positions")
    return Reading(tokenizer=model.tokenizer, max_length=max_length, overlap=windows)


def read_split(task: Task, name: str, reading: Reading) -> Split:
    examples = task.read(name)
    return Split(examples=examples, encoded=task.form.rows(examples, reading))


def has_labels(split: Split) -> bool:
    """Whether all that is asked has an answer."""
    return all(np.array_equal(row.weights > 0, row.asked > 0) for row in split.encoded.rows)


def _demand_labels(train: Mapping[str, Split], dev: Mapping[str, Split]) -> None:
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
