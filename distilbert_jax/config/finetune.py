"""What a fine-tuning is: a model, a task and how it is learned."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.data.tasks.registry import Task
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
    """A model fine-tuned on a task, once for each seed."""

    model: Pretrained
    random_init: bool = False  # only the shape and the tokenizer of the model: what its weights are worth
    task: str
    task_dir: str  # of the task's files
    losses: Mapping[str, Loss]
    teacher: Pretrained | None = None  # fine-tuned on the same task
    optimizer: AdamW
    epochs: int
    batch_size: int
    max_length: int
    window_overlap: int | None = None  # tokens that neighbouring windows of a long text share; it is cut where left out
    max_train_examples: int | None = None  # a fixed sample of the training examples; all where left out
    dropout: float | None = None  # of the whole encoder; as config.json says where left out
    dtype: Literal["float32", "bfloat16"] = "float32"
    per_device_batch_size: int = 32  # no part of what the run is

    def __post_init__(self) -> None:
        for name, loss in self.losses.items():
            if loss.teacher is not None and self.teacher is None:
                raise ValueError(f"losses.{name} compares with a teacher, but there is none")
        for field in ("epochs", "batch_size", "max_length", "per_device_batch_size"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, not {getattr(self, field)}")


MODEL_FIELDS = ("model", "random_init", "teacher", "losses", "task_dir")
"""Field paths of a FineTune that say which model is fine-tuned, how it is taught, and where this machine has the task's
files. The models of a retention table may differ in these, and in nothing else.
"""

BUDGET_FIELDS = ("epochs", "batch_size", "optimizer.learning_rate", "max_length")
"""Field paths of a FineTune that a retention table states below it, because scores depend on them most."""

RESUMABLE_FIELDS = ("per_device_batch_size",)
"""Field paths of a FineTune that may change between a call and one that continues it."""


HIDDEN_LOSSES: Mapping[str, Loss] = {"cosine": HiddenCosine(), "hidden_mse": HiddenMSE()}
"""What a teacher can show beside its answers."""


def default_finetune_config(
    task: Task, *, task_dir: str, model: Pretrained, teacher: Pretrained | None = None, extra_losses: Sequence[str] = ()
) -> FineTuneConfig:
    """The plan that is commonly followed for a task. With a teacher, half of the loss is its softened answer; `beside`
    names losses of HIDDEN that are added to that.
    """
    recipe, kind = task.recipe, task.task_type.problem_type
    numbers = kind in ("regression", "multi_label_classification")
    share = 0.5 if teacher else 1.0
    losses: dict[str, Loss] = {"hard": HardTargets(weight=share)}
    if numbers:
        losses = {"hard": RegressionMSE(weight=share) if kind == "regression" else MultiLabel(weight=share)}
    if teacher:
        losses["soft"] = LogitMSE(weight=0.5) if numbers else SoftTargets(weight=0.5, temperature=2.0)
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
