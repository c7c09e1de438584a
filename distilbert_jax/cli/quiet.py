"""Silences libraries that print long messages where the command itself prints one clear line."""

import os
import warnings


def quiet_orbax() -> None:
    """Keeps Orbax from logging the traceback of an error that it then raises."""
    from absl import logging

    logging.set_verbosity(logging.FATAL)
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)


def quiet_libtpu() -> None:
    """Keeps the TPU compiler from searching for TPUs that are not there. Call it before jax is imported."""
    no_tpu = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_ACCELERATOR_TYPE": "v5litepod-8"}
    os.environ.update({"JAX_PLATFORMS": "cpu"} | no_tpu | dict(os.environ))
