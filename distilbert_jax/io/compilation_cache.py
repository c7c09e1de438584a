"""Compiled programs, kept from one command to the next."""

import os
import sys

from distilbert_jax.io import cache_dir

MAX_CACHE_BYTES = 2**31  # bytes; what was not used for longest goes first


def enable_compilation_cache() -> None:
    """In `~/.cache/distilbert_jax/compiled`, unless JAX's own variables say otherwise; has to come before jax is
    imported. Where that cannot be made, a line says so, and every command compiles for itself.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = cache_dir.cache_folder("compiled")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.stderr.write(f"compiled programs are not kept: {error}; JAX_COMPILATION_CACHE_DIR names another place\n")
        return
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(MAX_CACHE_BYTES))
