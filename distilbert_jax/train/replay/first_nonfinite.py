"""Where a step stopped being finite, found in its parts and said in words."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from distilbert_jax.train.step_inspection import StepInspection

MAX_NAMED_PARAMETERS = 3  # parameters, at most


@dataclasses.dataclass(frozen=True, kw_only=True)
class FirstNonFinite:
    """`what` turned first, and in which rows of the [accumulation, b] that there are."""

    what: str
    rows: np.ndarray

    def first_row(self) -> tuple[int, int]:
        """(micro-batch, row in it), from 0."""
        micro, row = np.argwhere(self.rows)[0].tolist()
        return micro, row

    def describe(self) -> str:
        micro, _ = self.first_row()
        rows = f"in {self.rows.sum()} of {self.rows.size} rows"
        return f"{self.what} {rows}, the first of them in micro-batch {micro + 1} of {len(self.rows)}"


def find_first_nonfinite(parts: StepInspection, losses: Sequence[str]) -> FirstNonFinite | None:
    """The first in the order of things: the teachers from below, the student from below, losses, then the gradients
    from above. `parts` is on the host; None where all of it is finite.
    """
    bad = {name: ~np.isfinite(mean) for name, mean in parts.means.items()}
    lost = [name for name in (*losses, *sorted(bad.keys() - set(losses))) if bad[name].any()]
    with_it = f"; of the losses, {', '.join(lost)} with it," if lost else "; every loss is finite,"
    for model, sizes in (*parts.teachers.items(), ("student", parts.student)):
        for place, x in hidden_by_place(sizes).items():
            if not np.isfinite(x).all():
                return FirstNonFinite(what=f"{place} of the {model} turned first{with_it}", rows=~np.isfinite(x))
    if lost:
        kind = "loss" if lost[0] in losses else "metric"
        what = f"the {kind} {lost[0]} turned first" + (f", with {', '.join(lost[1:])}" if lost[1:] else "")
        return FirstNonFinite(
            what=f"{what}; every hidden state is finite, from the embeddings to the head;", rows=bad[lost[0]]
        )
    for name in losses:
        for place, of_params in reversed(by_place(parts.gradients[name]).items()):
            if wrong := {path: ~np.isfinite(x) for path, x in of_params.items() if not np.isfinite(x).all()}:
                rows = np.any(list(wrong.values()), axis=0)
                what = f"the gradient of the loss {name} turned first, at {place}"
                more = f" and {len(wrong) - MAX_NAMED_PARAMETERS} more" if len(wrong) > MAX_NAMED_PARAMETERS else ""
                named = f"({', '.join(list(wrong)[:MAX_NAMED_PARAMETERS])}{more})"
                return FirstNonFinite(what=f"{what} {named}; every loss and hidden state is finite;", rows=rows)
    return None


def hidden_by_place(sizes: Any) -> dict[str, np.ndarray]:
    """A model's [accumulation, b] sizes at each place, from below."""
    names = ["embeddings", *(f"layer {i}" for i in range(sizes.shape[-1] - 2)), "head"]
    return dict(zip(names, np.moveaxis(np.asarray(sizes), -1, 0), strict=True))


def by_place(params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The leaves {path: value} at each place, from below: of a model's own parameters, or of the state's, where those
    of the losses stand above all others.
    """
    found: dict[str, dict[str, Any]] = {}
    for path, x in flatten_dict(params, sep="/").items():
        found.setdefault(_place(path.removeprefix("student/").split("/")), {})[path] = x
    layers = sorted((name for name in found if name.startswith("layer ")), key=lambda name: int(name.split()[1]))
    order = ["embeddings", *layers, "head", *(name for name in found if name.startswith("loss "))]
    return {name: found[name] for name in order if name in found}


def _place(path: Sequence[str]) -> str:
    if path[0] == "losses":
        return f"loss {path[1]}"
    if path[0] != "encoder":
        return "head"
    return path[1].replace("_", " ") if path[1].startswith("layer_") else "embeddings"
