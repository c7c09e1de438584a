"""Distils small encoders from large ones, in JAX.

This module holds the public names. Each is imported when it is first used, so that `import distilbert_jax` is fast.
"""

import importlib
from typing import Any

_MODULES = {
    "distill": "distilbert_jax.train.distill.loop",
    "load_experiment": "distilbert_jax.config.experiment_file",
    "describe": "distilbert_jax.config.experiment_file",
    "Experiment": "distilbert_jax.config.experiment",
    "Pretrained": "distilbert_jax.config.experiment",
    "Student": "distilbert_jax.config.experiment",
    "load_pretrained": "distilbert_jax.hub.load",
    "predict_logits": "distilbert_jax.inference.predict",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used, and looks up `__version__`."""
    if name == "__version__":
        return _find_version()
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def _find_version() -> str:
    """Returns the version of the installed package, or "unknown" in a clone that was not installed."""
    import importlib.metadata

    try:
        return importlib.metadata.version(__name__)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
