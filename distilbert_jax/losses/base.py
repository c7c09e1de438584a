"""What a loss is, and how losses are added up.

A loss gives unreduced values and, apart from them, their weights. The weights see the batch alone, so the step sums
them over the whole global batch before the first forward pass: a mean is then exact over devices and micro-batches, Σ /
Σ, and every loss's gradient coefficient is a known constant. Averaging, weighting and logging happen here, once, so no
loss can forget a mask.
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
Means = dict[str, Float[Array, ""]]

LOSS_PARAMS_KEY = 2  # what a seed is for; 0 and 1 are masks and dropout
FORBIDDEN_LOGIT = -1e30
"""The score of an answer that is not permitted: finite, so that no difference of two becomes NaN."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSizes:
    """The sizes of a model that a loss may depend on."""

    hidden_size: int
    num_layers: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss:
    """Base of all losses. A subclass is final: it defines its fields, `weights`, `values`, and `init` if it learns.

    `weight` multiplies the loss's mean in the objective; `teacher` names the model it compares with, None where it
    needs none.
    """

    weight: float = 1.0
    teacher: str | None = None

    def init_params(self, key: Array, *, student_size: int, teacher_size: int | None) -> Params:
        """Parameters of the loss itself (a projection, say) for models of these hidden sizes; none by default. They
        never reach an exported student.
        """
        del key, student_size, teacher_size
        return {}

    def check_models(self, student: ModelSizes, teacher: ModelSizes) -> None:
        """Raises ValueError if the loss cannot compare models of these sizes. By default it can compare any two."""
        del student, teacher

    def weights(self, batch: Batch) -> Float[Array, "b ..."]:
        """How much each value counts. Sees no outputs."""
        raise NotImplementedError

    def values(self, params: Params, student: ModelOutputs, teacher: ModelOutputs | None) -> Float[Array, "b ..."]:
        """One value for each weight, not reduced."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitLoss(Loss):
    """A loss of whole score rows. It never says how the rows come to be: `losses/vocabulary.py` hands them out block
    by block.
    """

    @property
    def needs_all_positions(self) -> bool:
        """Whether it reads rows of scores at tokens that have no label."""
        return False

    def values_from_logits(
        self, z_s: Float[Array, "b p v"], z_t: Float[Array, "b p v"] | None, labels: Array
    ) -> Float[Array, "b p"]:
        """One value for each row of scores: the student's, the teacher's, and the right answer."""
        raise NotImplementedError


def init_loss_params(
    losses: Mapping[str, Loss], *, seed: int, student_size: int, teacher_size: int | None
) -> dict[str, Params]:
    """The parameters of each loss before the first update. `teacher_size` is None where there is no teacher."""
    root = jax.random.fold_in(jax.random.key(seed), LOSS_PARAMS_KEY)
    keys = zip(losses.items(), jax.random.split(root, len(losses)), strict=True)
    return {
        name: loss.init_params(key, student_size=student_size, teacher_size=teacher_size) for (name, loss), key in keys
    }


def sum_weights(losses: Mapping[str, Loss], batches: Batch) -> Means:
    """Each loss's normaliser over a global batch of [accumulation, b, …] leaves."""
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
    """This micro-batch's share of the objective, and of the global mean of each loss and of each of `watched`, which
    are not learned from.

    `sums` are the normalisers of all of them; everything is multiplied by `scale`, before it is differentiated.
    """
    batch = student.batch
    over_words = {name: loss for name, loss in losses.items() if isinstance(loss, LogitLoss)}
    share = {
        name: scale * loss.weights(batch) / jnp.maximum(weight_sums[name], 1.0)
        for name, loss in {**losses, **extra_metrics}.items()
    }
    objective = jnp.zeros(())
    means: Means = {}
    if over_words or extra_metrics:
        assert student.logits is not None, "a loss of score rows, but a model without a head"
        in_one_pass: Any = blockwise_logits.blockwise_total
        if not isinstance(student.logits, FactoredLogits):
            in_one_pass = functools.partial(_dense_total, batch.allowed_answers)
        objective, means = in_one_pass(
            {name: functools.partial(_answer, loss) for name, loss in {**over_words, **extra_metrics}.items()},
            {name: loss.weight for name, loss in over_words.items()},
            student.logits,
            {name: teacher.logits for name, teacher in teachers.items() if teacher.logits is not None},
            batch.labels,
            share,
        )
    for name in losses.keys() - over_words.keys():
        loss = losses[name]
        values = loss.values(params[name], student, None if loss.teacher is None else teachers[loss.teacher])
        means[name] = jnp.sum(values * share[name])
        objective += loss.weight * means[name]
    return objective, means


def _dense_total(
    allowed: Array | None,
    answers: Mapping[str, blockwise_logits.LogitFunction],
    coefficients: Mapping[str, float],
    student: Array,
    teachers: Mapping[str, Array],
    labels: Array,
    weights: Mapping[str, Array],
) -> tuple[Array, Means]:
    """As `vocabulary.total`, for scores few enough to stand in memory. An answer the task does not permit has no share
    in any probability, the student's or a teacher's.
    """
    if allowed is not None:
        student, teachers = jax.tree.map(lambda z: jnp.where(allowed, z, FORBIDDEN_LOGIT), (student, dict(teachers)))
    means = {name: jnp.sum(weights[name] * answer(student, teachers, labels)) for name, answer in answers.items()}
    return sum((c * means[name] for name, c in coefficients.items()), jnp.zeros(())), means


def _answer(loss: LogitLoss, z_s: Array, z_t: Mapping[str, Array], labels: Array) -> Array:
    return loss.values_from_logits(z_s, None if loss.teacher is None else z_t[loss.teacher], labels)
