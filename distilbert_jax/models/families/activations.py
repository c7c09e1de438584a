"""The Hub's names of the two GELUs: the exact one with the error function, and the tanh approximation (Hendrycks and
Gimpel, 2016).
"""

from typing import Literal

_GELUS: dict[str, Literal["erf", "tanh"]] = {"gelu": "erf", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}
ACTIVATIONS = {"erf": "gelu", "tanh": "gelu_new"}


def gelu_of(name: str) -> Literal["erf", "tanh"]:
    """Ours for a config.json's name. ValueError where the activation is another one."""
    if not isinstance(name, str) or name not in _GELUS:
        raise ValueError(f"the activation {name!r} is not supported: only {', '.join(_GELUS)}")
    return _GELUS[name]
