"""Distil small encoders from large ones, in JAX. The public names, loaded when they are first used: `import
distilbert_jax` costs nothing.
"""

import importlib
from typing import Any

_HOME = {
    "distill": "distilbert_jax.train.distill.loop",
    "load_experiment": "distilbert_jax.config.experiment_file",
    "describe": "distilbert_jax.config.experiment_file",
    "Experiment": "distilbert_jax.config.experiment",
    "Pretrained": "distilbert_jax.config.experiment",
    "Student": "distilbert_jax.config.experiment",
    "load_pretrained": "distilbert_jax.hub.load",
    "predict_logits": "distilbert_jax.inference.predict",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
