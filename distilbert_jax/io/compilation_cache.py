"""Keeps compiled programs from one command to the next."""

import os
import sys

from distilbert_jax.io import cache_dir

MAX_CACHE_BYTES = 2**31  # JAX deletes the programs that were not used for the longest time first


def enable_compilation_cache() -> None:
    """Makes JAX keep compiled programs in the cache folder `compiled`, unless JAX's own variables say otherwise.

    It has to be called before jax is imported. If the folder cannot be created, a line on stderr says so and every
    command compiles its programs again.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = cache_dir.cache_folder("compiled")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.stderr.write(
            f"compiled programs are not kept: {error}; set JAX_COMPILATION_CACHE_DIR to a folder that can be written\n"
        )
        return
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(MAX_CACHE_BYTES))
