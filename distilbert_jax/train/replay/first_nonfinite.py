"""Finds what became NaN or infinite first in a training step, and describes it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from distilbert_jax.messages import format_list
from distilbert_jax.train.step_inspection import StepInspection

MAX_NAMED_PARAMETERS = 3  # the message names this many parameters and counts the rest


@dataclasses.dataclass(frozen=True, kw_only=True)
class FirstNonFinite:
    """What became non-finite first in a step.

    Attributes:
        cause: what it was, and what else is or is not finite, as text.
        rows: [accumulation, b], True for the rows in which it is not finite.
    """

    cause: str
    rows: np.ndarray

    def first_row(self) -> tuple[int, int]:
        """Returns the first affected row as (micro-batch, index in the micro-batch), both from 0."""
        microbatch, index = np.argwhere(self.rows)[0].tolist()
        return microbatch, index

    def describe(self) -> str:
        """Returns the cause and the affected rows as text. Micro-batches are counted from 1."""
        microbatch, _ = self.first_row()
        return (
            f"{self.cause}. Affected rows: {self.rows.sum()} of {self.rows.size}; the first one is in micro-batch "
            f"{microbatch + 1} of {len(self.rows)}"
        )


def find_first_nonfinite(inspection: StepInspection, losses: Sequence[str]) -> FirstNonFinite | None:
    """Returns what became non-finite first, or None if everything is finite.

    First means in the order of computation: the teachers from the embeddings to the head, then the student, then the
    losses and metrics, then the gradients from the head back to the embeddings.

    Args:
        inspection: the parts of the step, on the host.
        losses: the names of the losses, in the order of the objective.
    """
    is_nonfinite = {name: ~np.isfinite(mean) for name, mean in inspection.means.items()}
    metrics = sorted(is_nonfinite.keys() - set(losses))
    nonfinite_means = [name for name in (*losses, *metrics) if is_nonfinite[name].any()]
    return (
        _find_hidden(inspection, nonfinite_means)
        or _find_mean(is_nonfinite, nonfinite_means, losses)
        or _find_gradient(inspection, losses)
    )


def _find_hidden(inspection: StepInspection, nonfinite_means: Sequence[str]) -> FirstNonFinite | None:
    """Returns the first hidden state that is not finite, or None."""
    if nonfinite_means:
        consequence = f"; then these became non-finite: {', '.join(nonfinite_means)}"
    else:
        consequence = "; every loss is finite"
    for model, magnitudes in (*inspection.teachers.items(), ("student", inspection.student)):
        for module, x in hidden_by_module(magnitudes).items():
            if not np.isfinite(x).all():
                cause = f"{module} of the {model} became non-finite first{consequence}"
                return FirstNonFinite(cause=cause, rows=~np.isfinite(x))
    return None


def _find_mean(
    is_nonfinite: Mapping[str, np.ndarray], nonfinite_means: Sequence[str], losses: Sequence[str]
) -> FirstNonFinite | None:
    """Returns the first loss that is not finite, or else the first such metric, or None."""
    if not nonfinite_means:
        return None
    first, *others = nonfinite_means
    kind = "loss" if first in losses else "metric"
    together = f", together with {', '.join(others)}" if others else ""
    cause = (
        f"the {kind} {first} became non-finite first{together}; every hidden state is finite, from the embeddings to "
        "the head"
    )
    return FirstNonFinite(cause=cause, rows=is_nonfinite[first])


def _find_gradient(inspection: StepInspection, losses: Sequence[str]) -> FirstNonFinite | None:
    """Returns the first gradient that is not finite, in the order of the backward pass, or None."""
    for name in losses:
        for module, gradients in reversed(group_by_module(inspection.gradients[name]).items()):
            is_nonfinite = {path: ~np.isfinite(x) for path, x in gradients.items() if not np.isfinite(x).all()}
            if is_nonfinite:
                paths = format_list(is_nonfinite, max_items=MAX_NAMED_PARAMETERS)
                cause = (
                    f"the gradient of the loss {name} became non-finite first, at {module} "
                    f"({paths}); every loss and hidden state is finite"
                )
                return FirstNonFinite(cause=cause, rows=np.any(list(is_nonfinite.values()), axis=0))
    return None


def hidden_by_module(magnitudes: Any) -> dict[str, np.ndarray]:
    """Returns the [accumulation, b] magnitudes of a model's hidden states by module, from the embeddings to the head.

    Args:
        magnitudes: [accumulation, b, l + 2], as in a StepInspection.
    """
    names = ["embeddings", *(f"layer {i}" for i in range(magnitudes.shape[-1] - 2)), "head"]
    return dict(zip(names, np.moveaxis(np.asarray(magnitudes), -1, 0), strict=True))


def group_by_module(params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the leaves {path: value} of a parameter tree by module, from the embeddings to the head.

    Args:
        params: the parameters of a model, or {"student": …, "losses": …} as in a TrainState. The parameters of losses
            come last.
    """
    modules: dict[str, dict[str, Any]] = {}
    for path, x in flatten_dict(params, sep="/").items():
        modules.setdefault(_module_name(path.removeprefix("student/").split("/")), {})[path] = x
    layers = sorted((name for name in modules if name.startswith("layer ")), key=lambda name: int(name.split()[1]))
    order = ["embeddings", *layers, "head", *(name for name in modules if name.startswith("loss "))]
    return {name: modules[name] for name in order if name in modules}


def _module_name(path: Sequence[str]) -> str:
    """Returns the module that a parameter belongs to: "embeddings", "layer 3", "head" or "loss NAME"."""
    if path[0] == "losses":
        return f"loss {path[1]}"
    if path[0] != "encoder":
        return "head"
    return path[1].replace("_", " ") if path[1].startswith("layer_") else "embeddings"
