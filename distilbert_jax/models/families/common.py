"""Converts the parts of config.json that are the same in several families: activations and labels."""

from collections.abc import Mapping
from typing import Any, Literal

from distilbert_jax.models.transformer import HeadConfig

MAX_LABELS = 2**16
"""A config.json comes from outside, and a head with more outputs than this could use up all memory."""

_ACTIVATIONS: dict[str, Literal["gelu", "gelu_tanh"]] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
}
"""Our name for each name of a GELU in Transformers. Those with the same name here differ by rounding only."""

HUB_ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_new"}
"""The name in config.json for each `TransformerConfig.activation`."""


def activation_from_hub(name: str) -> Literal["gelu", "gelu_tanh"]:
    """Returns our name for the name of an activation in config.json.

    Raises:
        ValueError: the activation is not supported.
    """
    if not isinstance(name, str) or name not in _ACTIVATIONS:
        raise ValueError(f"activation {name!r} is not supported. Use a model with one of {', '.join(_ACTIVATIONS)}.")
    return _ACTIVATIONS[name]


def labels_from_hub(hub_config: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the names of the labels in a config.json, in the order of their numbers.

    If it has no `id2label`, they are LABEL_0, LABEL_1, …, as in Transformers, and two if it has no `num_labels`.

    Raises:
        ValueError: `num_labels` or `id2label` is invalid.
    """
    count, id2label = hub_config.get("num_labels", 2), hub_config.get("id2label")
    if not id2label:
        if type(count) is not int or not 1 <= count <= MAX_LABELS:
            raise ValueError(f"num_labels must be a whole number from 1 to {MAX_LABELS:,}, not {count!r}")
        id2label = {str(i): f"LABEL_{i}" for i in range(count)}
    if not isinstance(id2label, Mapping):
        raise ValueError('id2label must be a JSON object from numbers to names, such as {"0": "no", "1": "yes"}')
    expected = [str(i) for i in range(len(id2label))]
    if sorted(id2label) != sorted(expected):
        raise ValueError(
            f"id2label must number its {len(id2label)} labels from 0 to {len(id2label) - 1}, but the numbers are "
            f"{', '.join(id2label)[:200]}"
        )
    return tuple(str(id2label[i]) for i in expected)


def labels_to_hub(head: HeadConfig) -> dict[str, Any]:
    """Returns the part of a config.json that states the labels: the inverse of `labels_from_hub`.

    It is empty for a head without labels.
    """
    if not head.labels:
        return {}
    stated: dict[str, Any] = {
        "id2label": {str(i): label for i, label in enumerate(head.labels)},
        "label2id": {label: i for i, label in enumerate(head.labels)},
    }
    if head.problem_type:
        stated["problem_type"] = head.problem_type
    return stated
