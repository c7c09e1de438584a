"""Repeats one step of a run and shows its parts, to find out why the step was not finite.

The rows and all random numbers of a step follow from its number, so a repetition needs nothing but the last checkpoint
before it.
"""

import contextlib
import dataclasses
import math
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
from rich.table import Table

from distilbert_jax import log_keys
from distilbert_jax.config.experiment import Experiment
from distilbert_jax.config.experiment_file import flatten
from distilbert_jax.data.tokenizer.tokenizer import Tokenizer
from distilbert_jax.io import files
from distilbert_jax.io.console import console, progress_bar
from distilbert_jax.runtime import command_record
from distilbert_jax.runtime.checkpoint import Checkpoints
from distilbert_jax.runtime.run_folder import RunIdentity, check_identity, read_identity
from distilbert_jax.train.distill.inputs import load_inputs
from distilbert_jax.train.distill.setup import DistillSetup, set_deterministic, setup_distillation
from distilbert_jax.train.replay import first_nonfinite
from distilbert_jax.train.step_inspection import StepInspection, max_magnitude
from distilbert_jax.types import TrainState

MAX_TEXT_CHARACTERS = 200  # the characters of a row that are printed


def replay(folder: pathlib.Path, *, step: int, may_change_code: bool = False) -> None:
    """Repeats a step of a run and prints its magnitudes, its metrics and what became non-finite first.

    Nothing in the run's folder changes.

    Args:
        folder: the run's folder.
        step: the step, from 1.
        may_change_code: whether the files of the experiment may have changed since the run began.

    Raises:
        ValueError: the folder is in use or is not that of a run, the run has no such step, or the command of the run
            gives another experiment than it did.
    """
    folder = files.expand_path(folder).absolute()
    command, working_dir = command_record.read_command(folder)
    read_identity(folder)
    with files.lock_folder(folder), contextlib.chdir(working_dir):
        experiment = command.load_experiment()
        # Checked twice: before the inputs are read, which takes time, and again with their hashes.
        identity = RunIdentity(config=flatten(experiment), code=command.hash_code())
        _check_same_experiment(folder, identity, command.file, may_change_code=may_change_code)
        if not 1 <= step <= experiment.steps:
            raise ValueError(f"The run {folder} has no step {step:,}. Choose a step from 1 to {experiment.steps:,}.")
        set_deterministic(experiment)
        # The step needs the shards of the run, whose hash is checked next, and not the text that they came from.
        inputs = load_inputs(experiment, compare_sources=False)
        identity = dataclasses.replace(identity, sha256=inputs.sha256)
        _check_same_experiment(folder, identity, command.file, may_change_code=may_change_code)
        setup = setup_distillation(experiment, inputs)
        state = _load_state_before(setup, folder, step)
        _inspect(experiment, setup, inputs.corpus.tokenizer, state, step)


def _check_same_experiment(folder: pathlib.Path, identity: RunIdentity, file: str, *, may_change_code: bool) -> None:
    """Raises ValueError, with the difference, if the run in `folder` had another identity."""
    problem = f"{file} now gives another experiment than the run {folder} had; restore the file to replay the run"
    check_identity(folder, identity, problem=problem, may_change_code=may_change_code)


def _load_state_before(setup: DistillSetup, folder: pathlib.Path, step: int) -> TrainState:
    """Returns the state that `step` begins with, by training from the last checkpoint before it."""
    with contextlib.closing(Checkpoints(folder / "checkpoints", keep=1)) as checkpoints:
        state, start = checkpoints.peek(setup.state, before=step) or (setup.state, 0)
    if start:
        console.print(f"Starting from the checkpoint of step {start:,}.")
    else:
        console.print(f"Starting from the initial state, because there is no checkpoint before step {step:,}.")
    with progress_bar(f"training up to step {step:,}", total=step - 1, stays=False) as advance:
        for index in range(start, step - 1):
            state, metrics = setup.train_step(state, setup.teachers, setup.put_batch(setup.batches[index]))
            advance(index + 1, f"loss {float(metrics[log_keys.LOSS.name]):.3f}")
    return state


def _inspect(experiment: Experiment, setup: DistillSetup, tokenizer: Tokenizer, state: TrainState, step: int) -> None:
    """Prints the parts of a step and what became non-finite first, given the state before it."""
    losses = list(experiment.losses)
    batch = setup.batches[step - 1]
    rows = setup.put_batch(batch)
    inspection = jax.device_get(setup.inspect_step(state.params, setup.teachers, rows))
    weights = jax.device_get(jax.tree.map(max_magnitude, {**setup.teachers, "student": state.params}))
    # Last, because the training step gives away the memory of the state.
    _, step_metrics = setup.train_step(state, setup.teachers, rows)
    metrics = {name: float(value) for name, value in step_metrics.items() if name != log_keys.NONFINITE_STEPS.name}
    console.print(_make_magnitude_table(inspection, weights, losses), _make_metric_table(inspection, metrics, step))

    first = first_nonfinite.find_first_nonfinite(inspection, losses)
    nonfinite_metrics = [name for name, value in metrics.items() if not math.isfinite(value)]
    if first is not None:
        index = first.first_row()
        row = batch["row_ids"][index]
        text = tokenizer.backend.decode(batch["tokens"][index].tolist())
        console.print(f"row {row}: {text[:MAX_TEXT_CHARACTERS]}", markup=False)
        message = f"{first.describe()}, row {row} of the corpus"
    elif nonfinite_metrics:
        message = (
            f"each row by itself is finite, but over the global batch {', '.join(nonfinite_metrics)} is not, because a "
            "sum is too large"
        )
    else:
        message = "every loss, hidden state and gradient is finite"
    console.print(f"step {step:,}: {message}.", markup=False)


def _make_magnitude_table(inspection: StepInspection, weights: Mapping[str, Any], losses: list[str]) -> Table:
    """Returns the table of the largest magnitudes of each module, from the embeddings to the head of each model."""
    table = Table(title="Largest magnitudes (∇: gradient of a loss for one row)", title_justify="left")
    table.add_column(no_wrap=True)
    for heading in ("weights", "hidden states", *(f"∇ {name}" for name in losses)):
        table.add_column(heading, overflow="fold")
    gradients = {name: first_nonfinite.group_by_module(inspection.gradients[name]) for name in losses}
    for model, magnitudes in (*inspection.teachers.items(), ("student", inspection.student)):
        hidden = first_nonfinite.hidden_by_module(magnitudes)
        for module, module_weights in first_nonfinite.group_by_module(weights[model]).items():
            cells = [
                _format_largest(module_weights.values()),
                _format_largest([hidden[module]]) if module in hidden else "",
            ]
            if model == "student":
                cells += [_format_largest(gradients[name][module].values()) for name in losses]
            table.add_row(module if module.startswith("loss ") else f"{model} {module}", *cells)
    return table


def _make_metric_table(inspection: StepInspection, metrics: Mapping[str, float], step: int) -> Table:
    """Returns the table of the step's metrics, with the number of rows in which each of them is not finite."""
    outcome = "applied" if all(map(math.isfinite, metrics.values())) else "skipped"
    table = Table(
        "metric", "value", "non-finite rows", title=f"Step {step:,}: the update is {outcome}", title_justify="left"
    )
    for name, value in metrics.items():
        loss_key = log_keys.LOSS_MEAN.match(name)
        row_values = inspection.means.get(loss_key["loss"] if loss_key else name)
        count = "" if row_values is None else f"{(~np.isfinite(row_values)).sum()} of {row_values.size}"
        table.add_row(name, _format_largest([value]), count)
    return table


def _format_largest(values: Iterable[Any]) -> str:
    """Returns the largest of some arrays of magnitudes, or of single numbers; red if it is not finite."""
    value = float(np.max([np.max(x) for x in values]))
    return f"{value:.3g}" if math.isfinite(value) else f"[bold red]{value}[/]"
