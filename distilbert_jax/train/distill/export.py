"""Exports the student of a run as a Hub folder with a model card, from any of its checkpoints.

At its start, a run writes to `student/` what an export needs in addition to the weights: the student's config, its
tokenizer and the facts for the model card. An export therefore reads nothing outside the run's folder.
"""

import contextlib
import dataclasses
import pathlib
from typing import Any, TypedDict

import jax

from distilbert_jax import log_keys
from distilbert_jax.config.experiment import Experiment
from distilbert_jax.config.experiment_file import flatten
from distilbert_jax.data.tokenizer.tokenizer import load_tokenizer
from distilbert_jax.hub import model_card, save
from distilbert_jax.hub.load import parameter_shapes, read_config
from distilbert_jax.io import files, untrusted
from distilbert_jax.io.console import console, print_warning
from distilbert_jax.io.folder_marker import check_owner
from distilbert_jax.runtime import metrics_log
from distilbert_jax.runtime.checkpoint import Checkpoints
from distilbert_jax.runtime.run_folder import read_identity
from distilbert_jax.train.distill.baseline import UnigramBaseline
from distilbert_jax.train.distill.held_out import compute_perplexity
from distilbert_jax.train.distill.inputs import DistillInputs
from distilbert_jax.types import TrainState

STUDENT_FOLDER = "student"
CARD_FILE = "card.json"


class CardFacts(TypedDict):
    """The facts for the model card that are known when a run begins; `distillation_card` explains them."""

    name: str
    model_type: str
    teacher: str | None
    start: str
    base_model: str | None
    origin: list[str]
    manifest: dict[str, Any]
    settings: dict[str, Any]


class StudentFacts(TypedDict):
    """The content of card.json.

    Attributes:
        card: the facts for the model card.
        baseline: the fields of the `UnigramBaseline` that the student is compared with.
    """

    card: CardFacts
    baseline: dict[str, float]


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


def describe_student(
    folder: pathlib.Path, experiment: Experiment, inputs: DistillInputs, baseline: UnigramBaseline
) -> None:
    """Writes `student/` to the folder of a run: the student's config, its tokenizer and the facts for its card."""
    student = inputs.student
    card = CardFacts(
        name=experiment.name,
        model_type=student.family.MODEL_TYPE,
        teacher=inputs.teacher.public_name if inputs.teacher else None,
        start=inputs.source.public_name,
        base_model=(inputs.teacher or inputs.source).hub_id,
        origin=list(student.origin),
        manifest=dict(inputs.corpus.manifest),
        settings=flatten(experiment),
    )
    described = folder / STUDENT_FOLDER
    described.mkdir(exist_ok=True)
    save.write_description(described, family=student.family, config=student.config, tokenizer=inputs.corpus.tokenizer)
    files.write_json(described / CARD_FILE, StudentFacts(card=card, baseline=dataclasses.asdict(baseline)))


def export_checkpoint(
    folder: pathlib.Path, *, step: int | None = None, output_dir: pathlib.Path | None = None
) -> pathlib.Path:
    """Exports the student of a checkpoint. The run may have finished, may have been killed, or may be going on.

    Args:
        folder: the folder of the run.
        step: the step of the checkpoint; the newest one if left out.
        output_dir: the folder to write; `export-STEP` in the run's folder if left out.

    Returns:
        The folder that was written.

    Raises:
        ValueError: the folder is not that of a run, there is no such checkpoint, or `output_dir` has files of something
            else.
    """
    read_identity(folder)
    described = folder / STUDENT_FOLDER
    if not (described / CARD_FILE).is_file():
        raise ValueError(f"the run in {folder} has not begun to train, so there is nothing to export yet")
    if output_dir:
        check_owner(output_dir, "export", setting="--output-dir FOLDER")
    _, config, head_config = read_config(described, "masked_lm")
    with contextlib.closing(Checkpoints(folder / "checkpoints", keep=1)) as checkpoints:
        params, step = checkpoints.load_student(parameter_shapes(config, "masked_lm", head_config), step=step)
    return export_student(folder, params, step=step, output_dir=output_dir or folder / f"export-{step}")


def export_student(folder: pathlib.Path, params: Any, *, step: int, output_dir: pathlib.Path) -> pathlib.Path:
    """Writes a student as a Hub folder.

    One that is worse than the baseline gets a warning, on the screen and in its card.

    Args:
        folder: the folder of the run, with `student/` and the log.
        params: the student's parameters.
        step: the step after which it has these parameters.
        output_dir: the folder to write.

    Returns:
        The folder that was written.
    """
    described = folder / STUDENT_FOLDER
    family, config, _ = read_config(described, "masked_lm")
    facts: StudentFacts = untrusted.read_json(described / CARD_FILE, StudentFacts)
    measured = _with_perplexities([entry for entry in _read_evaluations(folder) if entry["step"] <= step][-1])
    warning = UnigramBaseline(**facts["baseline"]).explain_failure(measured)
    save.save_pretrained(
        output_dir,
        family=family,
        config=config,
        params=jax.device_get(params),
        tokenizer=load_tokenizer(described),
        card=model_card.distillation_card(**facts["card"], measured=measured, warning=warning),
        made_from={"run": facts["card"]["name"], "step": step},
    )
    console.print(f"Exported the student of step {step:,} to {output_dir}.", markup=False)
    if warning:
        print_warning(f"Warning: {warning} The card of the export says so, too.")
    return output_dir


def write_results(folder: pathlib.Path, experiment: Experiment) -> None:
    """Writes results.json: the first and the last evaluation of a finished run."""
    evaluations = _read_evaluations(folder)
    teacher = experiment.teacher
    files.write_json(
        folder / "results.json",
        {
            "name": experiment.name,
            "teacher": {"folder": teacher.name_or_path, "revision": teacher.revision} if teacher else None,
            "initial": evaluations[0],
            "final": evaluations[-1],
        },
    )


def _read_evaluations(folder: pathlib.Path) -> list[dict[str, float | int]]:
    """Returns the evaluations of a run, in order, by log key."""
    return [
        {key: value for key, value in entry.items() if key != "kind"} for entry in metrics_log.read_log(folder, "eval")
    ]


def _with_perplexities(entry: dict[str, float | int]) -> dict[str, float | int]:
    """Returns an evaluation with its perplexities computed again: the log has null for one that is infinite."""
    return entry | {
        perplexity.name: compute_perplexity(entry[key.name])
        for key, perplexity in log_keys.PERPLEXITIES.items()
        if key.name in entry
    }
