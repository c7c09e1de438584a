"""A run's student as a Hub folder, with a card that says what was done."""

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
    """Writes the student with its trained `params` to `export/` in the run's folder, and returns that."""
    student = inputs.student
    target, logged = folder / "export", metrics_log.read_log(folder, "eval")
    evaluations = [{key: value for key, value in entry.items() if key != "kind"} for entry in logged]
    text = model_card.distillation_card(
        name=experiment.name,
        model_type=student.family.MODEL_TYPE,
        teacher=experiment.teacher.name_or_path if experiment.teacher else None,
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
        card=text,
    )
    named = (
        {"folder": experiment.teacher.name_or_path, "revision": experiment.teacher.revision}
        if experiment.teacher
        else None
    )
    files.write_json(
        folder / "results.json",
        {"name": experiment.name, "teacher": named, "initial": evaluations[0], "final": evaluations[-1]},
    )
    console.print(f"exported to {target}")
    return target
