"""Exports the student of a finished run as a Hub folder with a model card."""

import pathlib
from typing import Any

import jax

from distilbert_jax import log_keys
from distilbert_jax.config.experiment import Experiment
from distilbert_jax.config.experiment_file import describe
from distilbert_jax.hub import model_card, save
from distilbert_jax.io import files
from distilbert_jax.io.console import console
from distilbert_jax.runtime import metrics_log
from distilbert_jax.train.distill.baseline import UnigramBaseline
from distilbert_jax.train.distill.held_out import compute_perplexity
from distilbert_jax.train.distill.inputs import DistillInputs
from distilbert_jax.types import TrainState


def check_learned(experiment: Experiment, state: TrainState) -> None:
    """Raises ValueError if every step of a run was skipped, so that the student is what it was before the first one."""
    num_skipped = int(state.nonfinite_steps)
    if state.loss_scale is not None:
        num_skipped += int(state.loss_scale.num_overflows)
    if num_skipped >= experiment.steps:
        raise ValueError(
            f"all {experiment.steps:,} steps were skipped, because a loss or a gradient was not finite in "
            f"{experiment.dtype}. The student has learned nothing, so it is not exported. Lower the weights of the "
            "losses, train for more steps, or use dtype=bfloat16 or dtype=float32"
        )


def export_student(
    folder: pathlib.Path, experiment: Experiment, inputs: DistillInputs, params: Any, baseline: UnigramBaseline
) -> pathlib.Path:
    """Writes the trained student to `export/` and the first and last evaluation to results.json.

    A student that is worse than the baseline is exported with a warning, on the screen and in its card.

    Args:
        folder: the run's folder, with its log.
        experiment: the experiment.
        inputs: what the run read.
        params: the student's trained parameters.
        baseline: what the student is compared with.

    Returns:
        The `export/` folder.
    """
    student, teacher = inputs.student, experiment.teacher
    target = folder / "export"
    logged = metrics_log.read_log(folder, "eval")
    evaluations = [{key: value for key, value in entry.items() if key != "kind"} for entry in logged]
    measured = evaluations[-1] | {
        # The log has null for a perplexity that is infinite.
        perplexity.name: compute_perplexity(evaluations[-1][key.name])
        for key, perplexity in log_keys.PERPLEXITIES.items()
        if key.name in evaluations[-1]
    }
    warning = baseline.explain_failure(measured)
    card = model_card.distillation_card(
        name=experiment.name,
        model_type=student.family.MODEL_TYPE,
        teacher=teacher.name_or_path if teacher else None,
        start=experiment.student_source.name_or_path,
        base_model=(inputs.teacher or inputs.source).hub_id,
        origin=student.origin,
        measured=measured,
        warning=warning,
        manifest=inputs.corpus.manifest,
        description=describe(experiment),
    )
    save.save_pretrained(
        target,
        family=student.family,
        config=student.config,
        params=jax.device_get(params),
        tokenizer=inputs.corpus.tokenizer,
        card=card,
    )
    files.write_json(
        folder / "results.json",
        {
            "name": experiment.name,
            "teacher": {"folder": teacher.name_or_path, "revision": teacher.revision} if teacher else None,
            "initial": evaluations[0],
            "final": evaluations[-1],
        },
    )
    console.print(f"Exported the student to {target}.")
    if warning:
        console.print(f"[bold yellow]Warning: {warning} The card of the export says so, too.[/]")
    return target
