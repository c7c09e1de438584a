"""Prepares the models of fine-tuning: the student with the labels of the task, and its teacher."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from distilbert_jax import heads
from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.config.finetune import FineTuneConfig
from distilbert_jax.data.tasks.task_types.base import TaskType
from distilbert_jax.data.tasks.task_types.tagging import OUTSIDE_TAG, Tagging
from distilbert_jax.hub.load import PretrainedModel, load_pretrained
from distilbert_jax.messages import format_command, format_list
from distilbert_jax.models.attention_kernel import choose_attention_kernel
from distilbert_jax.models.transformer import TransformerConfig
from distilbert_jax.train.compatibility import check_comparable
from distilbert_jax.types import Apply

OUTPUT_LAYER = "classifier"  # the layer whose size is the number of labels
MAX_LISTED_LABELS = 10  # in a message


def match_labels(model: PretrainedModel, task_type: TaskType) -> PretrainedModel:
    """Returns the model with the labels of the task.

    If the model was trained on the same labels in another order, its output layer is put into the order of the task. If
    it was trained on other labels, its output layer is removed; `format_label_mismatch` says how they differ. Labels
    named LABEL_0, LABEL_1, … are taken to be those of the task, in its order. A number has only one output, so its name
    does not matter.
    """
    model_labels, is_regression = model.head_config.labels, task_type.problem_type == "regression"
    if is_regression:
        order = [0] if len(model_labels) == 1 else None
    else:
        order = _order_outputs(model_labels, task_type.labels)
    regression_labels = model_labels if model.has_head and order else ("LABEL_0",)
    matched = dataclasses.replace(
        model,
        head_config=dataclasses.replace(
            model.head_config,
            labels=regression_labels if is_regression else task_type.labels,
            problem_type=task_type.problem_type,
        ),
    )
    if not model.has_head or not (is_regression or task_type.labels):
        return matched
    params = dict(model.params)
    if order is None:
        del params[OUTPUT_LAYER]
        return dataclasses.replace(matched, params=params, has_head=False)
    params[OUTPUT_LAYER] = {name: x[..., np.array(order)] for name, x in params[OUTPUT_LAYER].items()}
    return dataclasses.replace(matched, params=params)


def has_common_tags(model: PretrainedModel, task_type: Tagging) -> bool:
    """Returns whether a tagging model can be evaluated on a task although their tags differ.

    They need a tag of an entity in common, and every tag of the model has to be O, B-TYPE or I-TYPE.
    """
    tags = _respell_labels(model.head_config.labels, task_type.labels)
    is_valid = all(tag == OUTSIDE_TAG or tag[:2] in ("B-", "I-") for tag in tags) and len(set(tags)) == len(tags)
    return is_valid and bool(set(tags) & set(task_type.labels) - {OUTSIDE_TAG})


def merge_tags(model: PretrainedModel, task_type: Tagging) -> Tagging:
    """Returns the task type with the tags of a model, in its order, and then those that only the task has.

    So the model never predicts the tags that it lacks, and every other tag is what the model says.
    """
    tags = _respell_labels(model.head_config.labels, task_type.labels)
    missing = [tag for tag in task_type.labels if tag not in tags]
    return dataclasses.replace(task_type, labels=(*tags, *missing))


def format_label_mismatch(model: PretrainedModel, task_type: TaskType) -> str:
    """Formats how the labels of a model differ from those of a task, for messages."""
    model_labels, task_labels = _respell_labels(model.head_config.labels, task_type.labels), task_type.labels
    if task_type.problem_type == "regression":
        return f"the model has {len(model_labels)} outputs ({_join_labels(model_labels)}), but a number needs only one"
    parts = [
        f"only {owner} has {_join_labels(only)}"
        for owner, only in (
            ("the model", [name for name in model_labels if name not in task_labels]),
            ("the task", [name for name in task_labels if name not in model_labels]),
        )
        if only
    ]
    return "; ".join(parts) or f"the model names its outputs {_join_labels(model_labels)}, some of them twice"


def _respell_labels(model_labels: Sequence[str], task_labels: Sequence[str]) -> tuple[str, ...]:
    """Returns the labels of a model in the letter case of the task, unless ignoring case makes two labels one."""
    task_names = {label.casefold(): label for label in task_labels}
    if len(task_names) < len(task_labels) or len({label.casefold() for label in model_labels}) < len(model_labels):
        return tuple(model_labels)
    return tuple(task_names.get(label.casefold(), label) for label in model_labels)


def _order_outputs(model_labels: Sequence[str], task_labels: Sequence[str]) -> list[int] | None:
    """Returns the number of the model's output for each label of the task, or None if the labels are not the same.

    Labels are compared exactly first, and without letter case only if that does not make two of them one.
    """
    for names in (tuple(model_labels), _respell_labels(model_labels, task_labels)):
        if sorted(names) == sorted(task_labels):
            return [names.index(label) for label in task_labels]
    is_unnamed = [name.casefold() for name in model_labels] == [f"label_{i}" for i in range(len(task_labels))]
    return list(range(len(task_labels))) if is_unnamed else None


def _join_labels(labels: Sequence[str]) -> str:
    """Returns the labels as text, at most MAX_LISTED_LABELS of them."""
    return format_list(labels, max_items=MAX_LISTED_LABELS)


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
    loaded = load_pretrained(source, head=task_type.head)
    teacher = match_labels(loaded, task_type)
    if not teacher.has_head:
        problem = (
            f"has other labels than {config.task} ({format_label_mismatch(loaded, task_type)})"
            if loaded.has_head
            else f"has no {task_type.head} head"
        )
        raise ValueError(
            f"teacher {teacher.folder} {problem}, so it cannot teach this task; fine-tune it on {config.task} first:\n"
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
