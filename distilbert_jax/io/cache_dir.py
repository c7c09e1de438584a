"""Where on this machine the package keeps what it can make or fetch again."""

import os
import pathlib


def cache_folder(name: str) -> pathlib.Path:
    """Its folder of this name; not made here."""
    caches = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    return caches / "distilbert_jax" / name
