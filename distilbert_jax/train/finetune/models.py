"""The models of fine-tuning: with the task's labels, and who teaches."""

import dataclasses
from typing import Any, Literal

import numpy as np

from distilbert_jax import heads
from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.config.finetune import FineTune
from distilbert_jax.data.tasks.task_types.base import Form
from distilbert_jax.hub.load import Model, read
from distilbert_jax.models.attention_kernel import with_attention
from distilbert_jax.models.transformer import TransformerConfig
from distilbert_jax.train.compatibility import check_comparable
from distilbert_jax.types import Apply

OUTPUT = "classifier"  # the layer whose size is the task's


def with_labels(model: Model, form: Form) -> Model:
    """The model with the task's labels: in the task's order where its output layer has them in another, without that
    layer where it has others.
    """
    wanted, stated = form.labels, model.head_cfg.labels
    size = 1 if form.problem_type == "regression" else len(wanted)
    head_cfg = dataclasses.replace(
        model.head_cfg, labels=wanted or (("LABEL_0",) if size else ()), problem_type=form.problem_type
    )
    if not model.has_head or not size:
        return dataclasses.replace(model, head_cfg=head_cfg)
    ours, theirs = [name.casefold() for name in wanted], [name.casefold() for name in stated]
    unnamed = theirs == [f"label_{i}" for i in range(size)]
    params = dict(model.params)
    if not unnamed and sorted(ours) == sorted(theirs):
        order = np.array([theirs.index(name) for name in ours])
        params[OUTPUT] = {name: x[..., order] for name, x in params[OUTPUT].items()}
    elif not unnamed:
        del params[OUTPUT]
        return dataclasses.replace(model, head_cfg=head_cfg, params=params, has_head=False)
    return dataclasses.replace(model, head_cfg=head_cfg, params=params)


def read_teacher(wanted: Pretrained, model: Model, form: Form, plan: FineTune) -> Model:
    """ValueError where it cannot teach this task to this model."""
    teacher = with_labels(read(wanted, head=form.head), form)
    if not teacher.has_head:
        raise ValueError(
            f"teacher {teacher.folder} has no {form.head} head for these answers, so it cannot teach them; fine-tune "
            f"it first:\n  python -m distilbert_jax finetune {teacher.folder} --task {plan.task}={plan.folder}"
        )
    check_comparable(teacher, model, plan.losses, student_layers=model.cfg.num_layers)
    return teacher


def make_apply(model: Model, plan: FineTune, who: Literal["student", "teacher"]) -> Apply:
    """Encoder and head as the plan computes them: its dropout, its type, and the kernel of attention that suits."""
    cfg = with_attention(dataclasses.replace(_with_dropout(model, plan), dtype=plan.dtype), who=who)
    apply: Any = heads.build(model.head, cfg, model.head_cfg).apply
    return apply


def _with_dropout(model: Model, plan: FineTune) -> TransformerConfig:
    if plan.dropout is None:
        return model.cfg
    rates = {"dropout": plan.dropout, "attention_dropout": plan.dropout}
    cfg: TransformerConfig = model.family.student_of(model.cfg, num_layers=model.cfg.num_layers, **rates)
    return cfg
