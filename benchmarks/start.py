"""Seconds from the command to the first step: with nothing compiled, and with what an earlier command compiled; and of
importing the package.

Each turn is a command of its own, `distill --smoke`, which reads a model, prepares a corpus and compiles every program
of a run. The peer is the import of torch and transformers' models.
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
    """Until the first step is on disk: what is logged gets there before a checkpoint, of which each step has one."""
    kept = tempfile.TemporaryDirectory()

    def run() -> float:
        with tempfile.TemporaryDirectory() as folder:
            env = os.environ | {"JAX_COMPILATION_CACHE_DIR": kept.name if warm else f"{folder}/compiled"}
            start = time.perf_counter()
            command = [sys.executable, "-m", "distilbert_jax", "distill", EXPERIMENT, "--smoke", folder]
            command += ["checkpoint_every=1"]
            process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            log = pathlib.Path(folder, "run", "log.jsonl")
            while not (log.is_file() and log.stat().st_size):
                assert process.poll() is None, "it ended before its first step"
                time.sleep(0.01)
            took = time.perf_counter() - start
            process.wait()
            return took

    return lambda: {"seconds": run()}


def python(code: str) -> Turn:
    """A Python that does this alone."""
    return lambda: {"seconds": seconds(lambda: subprocess.run([sys.executable, "-c", code], check=True))}


SIDES = {
    "to the first step, nothing compiled": lambda: first_step(warm=False),
    "to the first step, compiled before": lambda: first_step(warm=True),
    "--help": lambda: python("import distilbert_jax.cli.parser as m; m.make_parser().format_help()"),
    "import of the training": lambda: python("import distilbert_jax.train.distill.loop"),
    "import of jax and flax": lambda: python("import jax, flax.linen"),
    "import of torch and transformers' models": lambda: python(
        "import torch; from transformers import BertForMaskedLM, DistilBertForMaskedLM"
    ),
}


def tables(*, sides: Sequence[str] = tuple(SIDES), repeats: int = 5) -> Iterator[Table]:
    """One."""
    got = take_turns({name: Side(module="start", name=name, settings={}) for name in sides}, repeats)
    rows = [(name, spread(figures["seconds"], 2)) for name, figures in got.items()]
    yield Table(title="Start", header=("what", "seconds (quartiles)"), rows=rows)
