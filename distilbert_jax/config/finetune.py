"""The configuration of a fine-tuning: a model, a task and how the model learns it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from distilbert_jax.config.experiment import Pretrained, check_losses
from distilbert_jax.data.tasks.registry import Task
from distilbert_jax.fields import NonNegativeInt, PositiveInt, Range, Rate, check_fields
from distilbert_jax.losses.base import Loss
from distilbert_jax.losses.hard_targets import HardTargets
from distilbert_jax.losses.hidden_cosine import HiddenCosine
from distilbert_jax.losses.hidden_mse import HiddenMSE
from distilbert_jax.losses.logit_mse import LogitMSE
from distilbert_jax.losses.multi_label import MultiLabel
from distilbert_jax.losses.regression_mse import RegressionMSE
from distilbert_jax.losses.soft_targets import SoftTargets
from distilbert_jax.optimizer import AdamW


@dataclasses.dataclass(frozen=True, kw_only=True)
class FineTuneConfig:
    """The fine-tuning of a model on a task, with one or more seeds.

    Attributes:
        model: the model to fine-tune.
        random_init: whether to use only the config and the tokenizer of the model, with random weights, to find out
            what its weights are worth.
        task: the name of the task.
        task_dir: the folder with the task's files.
        losses: the terms of the loss, by name.
        teacher: a model fine-tuned on the same task, or None if no loss needs one.
        optimizer: the optimizer and its schedule.
        epochs: the number of passes over the training examples.
        batch_size: rows of one update, over all devices.
        max_length: the largest number of tokens of a row.
        window_overlap: the number of tokens that neighbouring windows of a long text share; if left out, long texts
            are truncated.
        max_train_examples: the size of a fixed sample of the training examples; all of them if left out.
        dropout: the dropout rate of the encoder; that of the model's config.json if left out.
        dtype: the type of the computation; parameters are always float32.
        per_device_batch_size: rows that one device processes at once. It does not change the result.

    Raises:
        ValueError: if a field has a value that is not possible.
    """

    model: Pretrained
    random_init: bool = False
    task: str
    task_dir: str
    losses: Mapping[str, Loss]
    teacher: Pretrained | None = None
    optimizer: AdamW
    epochs: Annotated[int, Range(at_least=1, at_most=1_000_000)]
    batch_size: Annotated[int, Range(at_least=1, at_most=2**24)]
    max_length: Annotated[int, Range(at_least=4, at_most=2**16)]
    window_overlap: NonNegativeInt | None = None
    max_train_examples: PositiveInt | None = None
    dropout: Rate | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    per_device_batch_size: PositiveInt = 32

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_fields(self, path="")
        check_losses(self.losses, has_teacher=self.teacher is not None)


MODEL_FIELDS = ("model", "random_init", "teacher", "losses", "task_dir")
"""Field paths of a FineTuneConfig in which the models of a retention table may differ, and in nothing else.

They say which model is fine-tuned, how it is taught, and where the task's files are on this machine.
"""

BUDGET_FIELDS = ("epochs", "batch_size", "optimizer.learning_rate", "max_length")
"""Field paths of a FineTuneConfig that a retention table states below it, because scores depend on them most."""

RESUMABLE_FIELDS = ("per_device_batch_size",)
"""Field paths of a FineTuneConfig that may change between a call and one that continues it."""

HIDDEN_LOSSES: Mapping[str, Loss] = {"cosine": HiddenCosine(), "hidden_mse": HiddenMSE()}
"""Losses on hidden states that can be added with a teacher, by the names that `--hidden-loss` takes."""


def default_finetune_config(
    task: Task, *, task_dir: str, model: Pretrained, teacher: Pretrained | None = None, extra_losses: Sequence[str] = ()
) -> FineTuneConfig:
    """Returns the configuration that is commonly used for a task.

    Args:
        task: the task, whose recipe gives the learning rate, the epochs and the sizes.
        task_dir: the folder with the task's files.
        model: the model to fine-tune.
        teacher: a model fine-tuned on the same task; its softened logits become half of the loss.
        extra_losses: names of `HIDDEN_LOSSES` to add to the loss.
    """
    recipe, problem_type = task.recipe, task.task_type.problem_type
    hard_weight = 0.5 if teacher else 1.0
    losses: dict[str, Loss]
    if problem_type == "regression":
        losses = {"hard": RegressionMSE(weight=hard_weight)}
    elif problem_type == "multi_label_classification":
        losses = {"hard": MultiLabel(weight=hard_weight)}
    else:
        losses = {"hard": HardTargets(weight=hard_weight)}
    if teacher:
        # Soft targets need one probability distribution over all classes, which these two problem types do not have.
        has_distribution = problem_type not in ("regression", "multi_label_classification")
        losses["soft"] = SoftTargets(weight=0.5, temperature=2.0) if has_distribution else LogitMSE(weight=0.5)
    losses |= {name: HIDDEN_LOSSES[name] for name in extra_losses}
    return FineTuneConfig(
        model=model,
        task=task.name,
        task_dir=task_dir,
        teacher=teacher,
        losses=losses,
        optimizer=AdamW(
            learning_rate=recipe.learning_rate, warmup_ratio=0.1, weight_decay=0.01, max_grad_norm=1.0, b2=0.999
        ),
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        max_length=recipe.max_length,
    )
