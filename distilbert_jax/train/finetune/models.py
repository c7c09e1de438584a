"""Prepares the models of fine-tuning: the student with the labels of the task, and its teacher."""

import dataclasses
from typing import Any, Literal

import numpy as np

from distilbert_jax import heads
from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.config.finetune import FineTuneConfig
from distilbert_jax.data.tasks.task_types.base import TaskType
from distilbert_jax.hub.load import PretrainedModel, load_pretrained
from distilbert_jax.io.console import format_command
from distilbert_jax.models.attention_kernel import choose_attention_kernel
from distilbert_jax.models.transformer import TransformerConfig
from distilbert_jax.train.compatibility import check_comparable
from distilbert_jax.types import Apply

OUTPUT_LAYER = "classifier"  # the layer whose size is the number of labels


def match_labels(model: PretrainedModel, task_type: TaskType) -> PretrainedModel:
    """Returns the model with the labels of the task.

    If the model was trained on the same labels in another order, its output layer is put into the order of the task. If
    it was trained on other labels, its output layer is removed. Labels named LABEL_0, LABEL_1, … are taken to be those
    of the task, in its order.
    """
    task_labels, model_labels = task_type.labels, model.head_config.labels
    num_outputs = 1 if task_type.problem_type == "regression" else len(task_labels)
    head_config = dataclasses.replace(
        model.head_config,
        labels=task_labels or (("LABEL_0",) if num_outputs else ()),
        problem_type=task_type.problem_type,
    )
    if not model.has_head or not num_outputs:
        return dataclasses.replace(model, head_config=head_config)
    task_names, model_names = [name.casefold() for name in task_labels], [name.casefold() for name in model_labels]
    unnamed = model_names == [f"label_{i}" for i in range(num_outputs)]
    params = dict(model.params)
    if not unnamed and sorted(task_names) == sorted(model_names):
        order = np.array([model_names.index(name) for name in task_names])
        params[OUTPUT_LAYER] = {name: x[..., order] for name, x in params[OUTPUT_LAYER].items()}
    elif not unnamed:
        del params[OUTPUT_LAYER]
        return dataclasses.replace(model, head_config=head_config, params=params, has_head=False)
    return dataclasses.replace(model, head_config=head_config, params=params)


def load_teacher(
    source: Pretrained, model: PretrainedModel, task_type: TaskType, config: FineTuneConfig
) -> PretrainedModel:
    """Loads the teacher of a task.

    Args:
        source: where the teacher is loaded from.
        model: the model that is fine-tuned.
        task_type: the type of the task, which determines the head.
        config: the fine-tuning, with its losses.

    Raises:
        ValueError: the teacher has no head for the task, or cannot be compared with `model`.
    """
    teacher = match_labels(load_pretrained(source, head=task_type.head), task_type)
    if not teacher.has_head:
        raise ValueError(
            f"teacher {teacher.folder} has no {task_type.head} head with the labels of {config.task}, so it cannot "
            "teach this task; fine-tune it first:\n"
            f"  {format_command('finetune', teacher.folder, '--task', f'{config.task}={config.task_dir}')}"
        )
    check_comparable(teacher, model, config.losses, student_layers=model.config.num_layers)
    return teacher


def make_apply(model: PretrainedModel, config: FineTuneConfig, role: Literal["student", "teacher"]) -> Apply:
    """Returns the forward pass of encoder and head, with the dropout, dtype and attention kernel of `config`."""
    model_config = choose_attention_kernel(
        dataclasses.replace(_with_dropout(model, config), dtype=config.dtype), role=role
    )
    apply: Any = heads.build_model(model.head, model_config, model.head_config).apply
    return apply


def _with_dropout(model: PretrainedModel, config: FineTuneConfig) -> TransformerConfig:
    """Returns the model's config with the dropout rates of this fine-tuning, if it states one."""
    if config.dropout is None:
        return model.config
    rates = {"dropout": config.dropout, "attention_dropout": config.dropout}
    model_config: TransformerConfig = model.family.student_config(
        model.config, num_layers=model.config.num_layers, **rates
    )
    return model_config
