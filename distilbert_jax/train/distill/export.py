"""Exports the student of a finished run as a Hub folder with a model card."""

import pathlib
from typing import Any

import jax

from distilbert_jax.config.experiment import Experiment
from distilbert_jax.config.experiment_file import describe
from distilbert_jax.hub import model_card, save
from distilbert_jax.io import files
from distilbert_jax.io.console import console
from distilbert_jax.runtime import metrics_log
from distilbert_jax.train.distill.inputs import DistillInputs


def export_student(folder: pathlib.Path, experiment: Experiment, inputs: DistillInputs, params: Any) -> pathlib.Path:
    """Writes the trained student to `export/` and the first and last evaluation to results.json.

    Args:
        folder: the run's folder, with its log.
        experiment: the experiment.
        inputs: what the run read.
        params: the student's trained parameters.

    Returns:
        The `export/` folder.
    """
    student, teacher = inputs.student, experiment.teacher
    target = folder / "export"
    logged = metrics_log.read_log(folder, "eval")
    evaluations = [{key: value for key, value in entry.items() if key != "kind"} for entry in logged]
    card = model_card.distillation_card(
        name=experiment.name,
        model_type=student.family.MODEL_TYPE,
        teacher=teacher.name_or_path if teacher else None,
        start=experiment.student_source.name_or_path,
        base_model=(inputs.teacher or inputs.source).hub_id,
        origin=student.origin,
        measured=evaluations[-1],
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
    console.print(f"Exported the student to {target}.", markup=False)
    return target
