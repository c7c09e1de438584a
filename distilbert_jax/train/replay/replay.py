"""A step of a run done again and taken apart: the batch is a function of the step, so nothing but the checkpoint before
it is needed.
"""

import contextlib
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from rich.table import Table

from distilbert_jax import log_keys
from distilbert_jax.config.experiment import RESUMABLE_FIELDS, Experiment
from distilbert_jax.config.experiment_file import describe
from distilbert_jax.data.tokenizer.tokenizer import Tokenizer
from distilbert_jax.io import files
from distilbert_jax.io.console import console, progress_bar
from distilbert_jax.runtime import command_record
from distilbert_jax.runtime.checkpoint import Checkpoints
from distilbert_jax.runtime.run_folder import EXPERIMENT_FILE, check_identity, run_identity
from distilbert_jax.runtime.run_format import check_run_format
from distilbert_jax.train.distill.inputs import load_inputs
from distilbert_jax.train.distill.setup import DistillSetup, set_deterministic, setup_distillation
from distilbert_jax.train.replay import first_nonfinite
from distilbert_jax.train.step_inspection import StepInspection, max_magnitude
from distilbert_jax.types import TrainState

MAX_TEXT_CHARACTERS = 200  # characters of a row that are shown


def replay(folder: pathlib.Path, *, step: int) -> None:
    """Goes from the last checkpoint before `step` of the run in `folder` to it, and shows what becomes of the step's
    models, losses and gradients, and what turned first. The run's folder stays as it is.

    Raises ValueError where the run is in use, was not left by `distill`, or is of another experiment than its file
    gives now.
    """
    folder = folder.absolute()
    given, typed_in = command_record.read_command(folder)
    check_run_format(folder)
    with files.lock_folder(folder), contextlib.chdir(typed_in):
        experiment = given.load_experiment()
        _check_same_experiment(folder, describe(experiment), given.file)
        if not 1 <= step <= experiment.steps:
            raise ValueError(f"{folder} has steps 1 to {experiment.steps:,}, and no step {step:,}")
        set_deterministic(experiment)
        inputs = load_inputs(experiment)
        _check_same_experiment(folder, run_identity(experiment, inputs.sha256), given.file)
        run = setup_distillation(experiment, inputs)
        _take_apart(experiment, run, inputs.corpus.tokenizer, _before(run, folder, step), step)


def _check_same_experiment(folder: pathlib.Path, identity: str, file: str) -> None:
    """Raises ValueError, with the difference, if the run in `folder` had another identity."""
    problem = f"{folder} was run with another experiment than {file} gives now"
    check_identity(folder / EXPERIMENT_FILE, identity, resumable=RESUMABLE_FIELDS, problem=problem)


def _before(run: DistillSetup, folder: pathlib.Path, step: int) -> TrainState:
    """The state that `step` begins with."""
    with contextlib.closing(Checkpoints(folder / "checkpoints", keep=1)) as checkpoints:
        state, done = checkpoints.peek(run.state, before=step) or (run.state, 0)
    console.print(f"from the checkpoint of step {done:,}" if done else "from the start: no checkpoint before the step")
    with progress_bar(f"to step {step:,}", total=step - 1, stays=False) as advance:
        for at in range(done, step - 1):
            state, metrics = run.train_step(state, run.teachers, run.place(run.batches[at]))
            advance(at + 1, f"loss {float(metrics[log_keys.LOSS.name]):.3f}")
    return state


def _take_apart(experiment: Experiment, run: DistillSetup, tokenizer: Tokenizer, state: TrainState, step: int) -> None:
    """Shows the parts of a step from the state before it, and names what turned."""
    batch = run.batches[step - 1]
    parts = jax.device_get(run.inspect_step(state.params, run.teachers, run.place(batch)))
    weights = jax.device_get(jax.tree.map(max_magnitude, {**run.teachers, "student": state.params}))
    _, measured = run.train_step(state, run.teachers, run.place(batch))
    metrics = {name: float(value) for name, value in measured.items() if name != log_keys.NONFINITE_STEPS.name}
    console.print(_models(parts, weights, list(experiment.losses)), _means(parts, metrics, step))

    first, wrong = (
        first_nonfinite.find_first_nonfinite(parts, list(experiment.losses)),
        [n for n, x in metrics.items() if not math.isfinite(x)],
    )
    if first is None and wrong:
        said = f"each row by itself is finite, but {', '.join(wrong)} of the whole batch is not: a sum is too large"
    elif first is None:
        said = f"nothing turned at step {step:,}: every loss, hidden state and gradient is finite"
    else:
        at = first.first_row()
        said = f"step {step:,}: {first.describe()}, row {batch['row_ids'][at]} of the corpus"
        text = tokenizer.backend.decode(batch["tokens"][at].tolist())
        console.print(f"row {batch['row_ids'][at]}: {text[:MAX_TEXT_CHARACTERS]}", markup=False)
    console.print(said, markup=False)


def _models(parts: StepInspection, weights: Mapping[str, Any], losses: list[str]) -> Table:
    """The largest magnitudes from below to above, of each model."""
    table = Table(title="largest magnitudes; ∇ is a loss's gradient of one row", title_justify="left")
    table.add_column(no_wrap=True)
    for name in ("weights", "hidden", *(f"∇ {name}" for name in losses)):
        table.add_column(name, overflow="fold")
    gradients = {name: first_nonfinite.by_place(parts.gradients[name]) for name in losses}
    for model, sizes in (*parts.teachers.items(), ("student", parts.student)):
        hidden = first_nonfinite.hidden_by_place(sizes)
        for place, of_weights in first_nonfinite.by_place(weights[model]).items():
            cells = [_largest(of_weights.values()), _largest([hidden[place]]) if place in hidden else ""]
            if model == "student":
                cells += [_largest(gradients[name][place].values()) for name in losses]
            table.add_row(place if place.startswith("loss ") else f"{model} {place}", *cells)
    return table


def _means(parts: StepInspection, metrics: Mapping[str, float], step: int) -> Table:
    """What the step itself says, and in how many rows each of it is not finite."""
    update = "made" if all(map(math.isfinite, metrics.values())) else "left out"
    table = Table("", "value", "rows not finite", title=f"step {step:,}, its update {update}", title_justify="left")
    for name, value in metrics.items():
        of_loss = log_keys.LOSS_MEAN.match(name)
        of_rows = parts.means.get(of_loss["loss"] if of_loss else name)
        count = "" if of_rows is None else f"{(~np.isfinite(of_rows)).sum()} of {of_rows.size}"
        table.add_row(name, _largest([value]), count)
    return table


def _largest(values: Any) -> str:
    value = float(np.max([np.max(x) for x in values]))
    return f"{value:.3g}" if math.isfinite(value) else f"[bold red]{value}[/]"
