"""What several families read of config.json in the same way: labels and activations."""

from collections.abc import Mapping
from typing import Any, Literal

from distilbert_jax.models.transformer import HeadConfig

MAX_LABELS = 2**16
_GELUS: dict[str, Literal["gelu", "gelu_tanh"]] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
HUB_ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_new"}


def activation_from_hub(name: str) -> Literal["gelu", "gelu_tanh"]:
    """Ours for a config.json's name. ValueError where the activation is another one."""
    if not isinstance(name, str) or name not in _GELUS:
        raise ValueError(f"the activation {name!r} is not supported: only {', '.join(_GELUS)}")
    return _GELUS[name]


def labels_from_hub(hf: Mapping[str, Any]) -> tuple[str, ...]:
    """`id2label` in order; two nameless ones where it is missing, as the Hub has it. ValueError where a number is
    skipped.
    """
    count, stated = hf.get("num_labels", 2), hf.get("id2label")
    if not stated:
        if type(count) is not int or not 1 <= count <= MAX_LABELS:
            raise ValueError(f"num_labels must be a whole number from 1 to {MAX_LABELS:,}, not {count!r}")
        stated = {str(i): f"LABEL_{i}" for i in range(count)}
    if not isinstance(stated, Mapping):
        raise ValueError("id2label is not an object of numbers and names")
    wanted = [str(i) for i in range(len(stated))]
    if sorted(stated) != sorted(wanted):
        raise ValueError(f"id2label numbers {len(stated)} labels {', '.join(stated)[:200]}, not 0 to {len(stated) - 1}")
    return tuple(str(stated[i]) for i in wanted)


def labels_to_hub(head: HeadConfig) -> dict[str, Any]:
    """The inverse; nothing for a head without labels."""
    if not head.labels:
        return {}
    named = {
        "id2label": {str(i): label for i, label in enumerate(head.labels)},
        "label2id": {label: i for i, label in enumerate(head.labels)},
    }
    return named | ({"problem_type": head.problem_type} if head.problem_type else {})
