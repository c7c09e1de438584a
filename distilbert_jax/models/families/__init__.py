"""The families of encoders: what each calls its weights on the Hub, and what its config.json says."""

import importlib
from types import ModuleType
from typing import Any

FAMILIES = ("bert", "distilbert")
"""The `model_type` of every family; its module in this folder has the same name."""


def get_family(name: Any, *, field: str = "family") -> ModuleType:
    """Returns the module of a family.

    Args:
        name: the family's `model_type`. A config.json may state anything here, text or not.
        field: what the name was read from, for the error.

    Raises:
        ValueError: the family is not supported.
    """
    if name not in FAMILIES:
        raise ValueError(f"{field} {name!r} is not supported: only {', '.join(FAMILIES)}")
    return importlib.import_module(f"distilbert_jax.models.families.{name}")
