"""The base classes of losses, and the sum of losses that training minimizes.

A loss returns one value for each row, token or prediction, and separately the weights of these values. It does not
average. This module computes, for all losses alike,

    objective = Σ_loss loss.weight · Σ (weights · values) / Σ weights

where the inner sums run over the global batch: all devices and all micro-batches. The weights depend on the batch only,
so the step computes Σ weights before the first forward pass. The mean is then exact however the batch is divided, the
factor of each value's gradient is known in advance, and no loss can forget to leave padding out.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from distilbert_jax.losses import blockwise_logits
from distilbert_jax.types import Batch, FactoredLogits, ModelOutputs

Params = Any
"""The parameters of one loss, a tree of arrays; {} if it has none."""

Means = dict[str, Float[Array, ""]]
"""One scalar for each loss and each extra metric, by its name."""

LOSS_PARAMS_KEY = 2  # folded into the seed; token masking has 0 and dropout 1
FORBIDDEN_LOGIT = -1e30
"""The logit of an answer that the task does not allow. It is finite, so that the difference of two is not NaN."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSizes:
    """The sizes of a model that a loss may depend on."""

    hidden_size: int
    num_layers: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss:
    """The base class of all losses.

    A loss is a frozen dataclass whose fields are its settings. It defines two methods: `values` returns what is
    averaged, and `weights` returns how much each value counts. If it has parameters of its own, it also defines
    `init_params`, and if it cannot compare any two models, `check_models`. A loss that reads logits is a subclass of
    `LogitLoss` instead.

    For example, the L1 distance of the last hidden states, averaged over all tokens except padding:

        @dataclasses.dataclass(frozen=True, kw_only=True)
        class HiddenL1(Loss):
            teacher: str | None = "teacher"

            def weights(self, batch):
                return batch.token_mask.astype(jnp.float32)  # [b, t]

            def values(self, params, student, teacher):
                difference = student.hidden_states[-1] - teacher.hidden_states[-1]  # [b, t, d]
                return jnp.mean(jnp.abs(difference.astype(jnp.float32)), axis=-1)  # [b, t]

    An experiment uses it as `losses={"soft": SoftTargets(weight=5.0), "l1": HiddenL1(weight=0.5)}`. The class can be
    written in the file of the experiment or in a file of this folder. Training logs its mean as "loss/l1".

    Attributes:
        weight: the factor of the loss's mean in the objective.
        teacher: the name of the model that the loss compares the student with, or None if it needs no teacher.
    """

    weight: float = 1.0
    teacher: str | None = None

    def init_params(self, key: Array, *, student_size: int, teacher_size: int | None) -> Params:
        """Returns the initial parameters of the loss itself, such as a projection. By default it has none.

        They are trained with the student and are not exported with it.

        Args:
            key: the random key of this loss.
            student_size: the hidden size of the student.
            teacher_size: the hidden size of the teacher, or None if the run has no teacher.
        """
        del key, student_size, teacher_size
        return {}

    def check_models(self, student: ModelSizes, teacher: ModelSizes) -> None:
        """Raises ValueError if the loss cannot compare models of these sizes. By default it can compare any two."""
        del student, teacher

    def weights(self, batch: Batch) -> Float[Array, "b ..."]:
        """Returns the weight of each value, in the shape of `values`: [b], [b, t] or [b, p].

        A weight of 0 leaves a value out. The weights must not depend on the models.
        """
        raise NotImplementedError

    def values(self, params: Params, student: ModelOutputs, teacher: ModelOutputs | None) -> Float[Array, "b ..."]:
        """Returns the values of the loss, not averaged, in the shape of `weights`.

        Args:
            params: what `init_params` returned, as trained so far.
            student: the outputs of the student, through which gradients flow.
            teacher: the outputs of the model named by the field `teacher`, or None if that is None.
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitLoss(Loss):
    """The base class of losses that read the logits of one prediction at a time.

    A subclass defines `weights` and `values_from_logits`, and not `values`. The logits over a vocabulary may be too
    large for memory, so `losses/blockwise_logits.py` calls `values_from_logits` for one block of predictions after
    another.
    """

    @property
    def needs_all_positions(self) -> bool:
        """Whether the loss also reads the logits of predictions without a label. If no loss of a run does, only the
        logits of the labelled ones are computed.
        """
        return False

    def values_from_logits(
        self, student_logits: Float[Array, "b p v"], teacher_logits: Float[Array, "b p v"] | None, labels: Array
    ) -> Float[Array, "b p"]:
        """Returns the value of each prediction, [b, p].

        Args:
            student_logits: [b, p, v] in float32.
            teacher_logits: [b, p, v] in float32, or None if the field `teacher` is None.
            labels: the labels of the batch, [b, p] or [b, p, v].
        """
        raise NotImplementedError


def init_loss_params(
    losses: Mapping[str, Loss], *, seed: int, student_size: int, teacher_size: int | None
) -> dict[str, Params]:
    """Returns the initial parameters of each loss, by its name.

    Args:
        losses: the losses of the run.
        seed: the seed of the run.
        student_size: the hidden size of the student.
        teacher_size: the hidden size of the teacher, or None if the run has no teacher.
    """
    root = jax.random.fold_in(jax.random.key(seed), LOSS_PARAMS_KEY)
    keys = zip(losses.items(), jax.random.split(root, len(losses)), strict=True)
    return {
        name: loss.init_params(key, student_size=student_size, teacher_size=teacher_size) for (name, loss), key in keys
    }


def sum_weights(losses: Mapping[str, Loss], batches: Batch) -> Means:
    """Returns the sum of each loss's weights over `batches`, whose leaves are [accumulation, b, …]."""
    return {name: jnp.sum(jax.vmap(loss.weights)(batches)) for name, loss in losses.items()}


def total_loss(
    losses: Mapping[str, Loss],
    extra_metrics: Mapping[str, LogitLoss],
    params: Mapping[str, Params],
    student: ModelOutputs,
    teachers: Mapping[str, ModelOutputs],
    weight_sums: Means,
    *,
    scale: Float[Array, ""] | float = 1.0,
) -> tuple[Float[Array, ""], Means]:
    """Returns what one micro-batch adds to the objective, and to the mean of each loss and each extra metric.

    Summed over all micro-batches and devices, these are the objective and the means over the global batch. Where all
    weights are 0, as in a global batch without any labelled prediction, the mean is 0 and not NaN.

    Args:
        losses: the losses of the objective, by name.
        extra_metrics: numbers that are computed from the same logits for the log. They have no gradient.
        params: the parameters of each loss, by name.
        student: the student's outputs for the micro-batch.
        teachers: the outputs of each teacher for the same micro-batch, by name.
        weight_sums: by what the sum of each loss and each extra metric is divided: usually the sum of the weights over
            the global batch.
        scale: a factor of everything that is returned, applied before differentiation: the loss scale of float16.
    """
    batch = student.batch
    logit_losses = {name: loss for name, loss in losses.items() if isinstance(loss, LogitLoss)}
    normalized_weights = {
        name: _divide_or_zero(scale * loss.weights(batch), weight_sums[name])
        for name, loss in {**losses, **extra_metrics}.items()
    }
    objective = jnp.zeros(())
    means: Means = {}
    # Everything that reads logits is computed together, so that each block of logits is computed once.
    if logit_losses or extra_metrics:
        assert student.logits is not None, "a loss reads logits, but the model has no head"
        compute_total: Any = blockwise_logits.blockwise_total
        if not isinstance(student.logits, FactoredLogits):
            compute_total = functools.partial(_dense_total, batch.allowed_answers)
        objective, means = compute_total(
            {
                name: functools.partial(_compute_values, loss)
                for name, loss in {**logit_losses, **extra_metrics}.items()
            },
            {name: loss.weight for name, loss in logit_losses.items()},
            student.logits,
            {name: teacher.logits for name, teacher in teachers.items() if teacher.logits is not None},
            batch.labels,
            normalized_weights,
        )
    # In the order of the mapping: a set would add up in an order that differs from process to process.
    for name, loss in losses.items():
        if name in logit_losses:
            continue
        values = loss.values(params[name], student, None if loss.teacher is None else teachers[loss.teacher])
        means[name] = jnp.sum(values * normalized_weights[name])
        objective += loss.weight * means[name]
    return objective, means


def _divide_or_zero(weights: Array, weight_sum: Float[Array, ""] | float) -> Array:
    """Returns the weights divided by their sum, or zeros if the sum is 0."""
    is_zero = weight_sum == 0
    return jnp.where(is_zero, 0.0, weights / jnp.where(is_zero, 1.0, weight_sum))


def _dense_total(
    allowed_answers: Array | None,
    functions: Mapping[str, blockwise_logits.LogitFunction],
    coefficients: Mapping[str, float],
    student: Array,
    teachers: Mapping[str, Array],
    labels: Array,
    weights: Mapping[str, Array],
) -> tuple[Array, Means]:
    """Returns the same as `blockwise_logits.blockwise_total`, for logits that fit into memory.

    An answer that the task does not allow gets a probability of 0 from the student and from every teacher.
    """
    if allowed_answers is not None:
        student, teachers = jax.tree.map(
            lambda logits: jnp.where(allowed_answers, logits, FORBIDDEN_LOGIT), (student, dict(teachers))
        )
    means = {name: jnp.sum(weights[name] * compute(student, teachers, labels)) for name, compute in functions.items()}
    return sum((c * means[name] for name, c in coefficients.items()), jnp.zeros(())), means


def _compute_values(
    loss: LogitLoss, student_logits: Array, teacher_logits: Mapping[str, Array], labels: Array
) -> Array:
    """Returns the values of `loss`, given the logits of its own teacher among those of all teachers."""
    own_teacher_logits = None if loss.teacher is None else teacher_logits[loss.teacher]
    return loss.values_from_logits(student_logits, own_teacher_logits, labels)
