"""Locates the folders in which the package caches what it can make or download again."""

import os
import pathlib


def cache_folder(name: str) -> pathlib.Path:
    """Returns the path of the package's cache folder with this name, without creating it.

    It is below $XDG_CACHE_HOME/distilbert_jax, or ~/.cache/distilbert_jax if that variable is not set.
    """
    caches = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    return caches / "distilbert_jax" / name
