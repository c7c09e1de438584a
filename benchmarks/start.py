"""Measures the seconds from the command to the first step, and those of importing the package.

The first step is measured without compiled programs and with those of an earlier command. Each turn is a command
`distill --smoke` of its own, which loads a model, prepares a corpus and compiles all programs of a run. The comparison
is with importing torch and the models of transformers.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

from turns import Side, Table, Turn, seconds, spread, take_turns

EXPERIMENT = pathlib.Path(__file__).parents[1] / "experiments" / "quickstart.py"


def first_step(*, warm: bool) -> Turn:
    """Returns a turn that runs until the first step is in the log. `warm` keeps compiled programs between turns.

    A checkpoint is saved after every step, because the log is written to disk before a checkpoint.
    """
    cache = tempfile.TemporaryDirectory()

    def run() -> float:
        with tempfile.TemporaryDirectory() as folder:
            env = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache.name if warm else f"{folder}/compiled"}
            start = time.perf_counter()
            command = [sys.executable, "-m", "distilbert_jax", "distill", EXPERIMENT, "--smoke", folder]
            command += ["checkpoint_every=1"]
            process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            log = pathlib.Path(folder, "run", "log.jsonl")
            while not (log.is_file() and log.stat().st_size):
                assert process.poll() is None, "the command ended before its first step"
                time.sleep(0.01)
            elapsed = time.perf_counter() - start
            process.wait()
            return elapsed

    return lambda: {"seconds": run()}


def run_python(code: str) -> Turn:
    """Returns a turn that runs `code` in a Python process of its own."""
    return lambda: {"seconds": seconds(lambda: subprocess.run([sys.executable, "-c", code], check=True))}


SIDES = {
    "to the first step, nothing compiled": lambda: first_step(warm=False),
    "to the first step, compiled before": lambda: first_step(warm=True),
    "--help": lambda: run_python("import distilbert_jax.cli.parser as m; m.make_parser().format_help()"),
    "import of the training": lambda: run_python("import distilbert_jax.train.distill.loop"),
    "import of jax and flax": lambda: run_python("import jax, flax.linen"),
    "import of torch and transformers' models": lambda: run_python(
        "import torch; from transformers import BertForMaskedLM, DistilBertForMaskedLM"
    ),
}


def tables(*, sides: Sequence[str] = tuple(SIDES), repeats: int = 5) -> Iterator[Table]:
    """Yields one table."""
    measurements = take_turns({name: Side(module="start", name=name, settings={}) for name in sides}, repeats)
    rows = [(name, spread(figures["seconds"], 2)) for name, figures in measurements.items()]
    yield Table(title="Start", header=("side", "seconds (quartiles)"), rows=rows)
