"""The models of fine-tuning: with the task's labels, and who teaches."""

import dataclasses
from typing import Any, Literal

import numpy as np

from distilbert_jax import heads
from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.config.finetune import FineTuneConfig
from distilbert_jax.data.tasks.task_types.base import TaskType
from distilbert_jax.hub.load import PretrainedModel, load_pretrained
from distilbert_jax.models.attention_kernel import choose_attention_kernel
from distilbert_jax.models.transformer import TransformerConfig
from distilbert_jax.train.compatibility import check_comparable
from distilbert_jax.types import Apply

OUTPUT = "classifier"  # the layer whose size is the task's


def match_labels(model: PretrainedModel, form: TaskType) -> PretrainedModel:
    """The model with the task's labels: in the task's order where its output layer has them in another, without that
    layer where it has others.
    """
    wanted, stated = form.labels, model.head_config.labels
    size = 1 if form.problem_type == "regression" else len(wanted)
    head_config = dataclasses.replace(
        model.head_config, labels=wanted or (("LABEL_0",) if size else ()), problem_type=form.problem_type
    )
    if not model.has_head or not size:
        return dataclasses.replace(model, head_config=head_config)
    ours, theirs = [name.casefold() for name in wanted], [name.casefold() for name in stated]
    unnamed = theirs == [f"label_{i}" for i in range(size)]
    params = dict(model.params)
    if not unnamed and sorted(ours) == sorted(theirs):
        order = np.array([theirs.index(name) for name in ours])
        params[OUTPUT] = {name: x[..., order] for name, x in params[OUTPUT].items()}
    elif not unnamed:
        del params[OUTPUT]
        return dataclasses.replace(model, head_config=head_config, params=params, has_head=False)
    return dataclasses.replace(model, head_config=head_config, params=params)


def load_teacher(wanted: Pretrained, model: PretrainedModel, form: TaskType, plan: FineTuneConfig) -> PretrainedModel:
    """ValueError where it cannot teach this task to this model."""
    teacher = match_labels(load_pretrained(wanted, head=form.head), form)
    if not teacher.has_head:
        raise ValueError(
            f"teacher {teacher.folder} has no {form.head} head for these answers, so it cannot teach them; fine-tune "
            f"it first:\n  python -m distilbert_jax finetune {teacher.folder} --task {plan.task}={plan.task_dir}"
        )
    check_comparable(teacher, model, plan.losses, student_layers=model.config.num_layers)
    return teacher


def make_apply(model: PretrainedModel, plan: FineTuneConfig, role: Literal["student", "teacher"]) -> Apply:
    """Encoder and head as the plan computes them: its dropout, its type, and the kernel of attention that suits."""
    config = choose_attention_kernel(dataclasses.replace(_with_dropout(model, plan), dtype=plan.dtype), role=role)
    apply: Any = heads.build_model(model.head, config, model.head_config).apply
    return apply


def _with_dropout(model: PretrainedModel, plan: FineTuneConfig) -> TransformerConfig:
    if plan.dropout is None:
        return model.config
    rates = {"dropout": plan.dropout, "attention_dropout": plan.dropout}
    config: TransformerConfig = model.family.student_config(model.config, num_layers=model.config.num_layers, **rates)
    return config
