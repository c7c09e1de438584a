"""Evaluation of a fine-tuned model on a task: its metrics, and its predictions in the task's own file format."""

import dataclasses
import pathlib
from typing import Any

from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.data.batches import BatchLayout
from distilbert_jax.data.tasks.registry import Task
from distilbert_jax.data.tasks.task_types.base import TaskType
from distilbert_jax.data.tasks.task_types.span_extraction import SpanExtraction
from distilbert_jax.devices.mesh import make_mesh
from distilbert_jax.hub.load import load_pretrained
from distilbert_jax.inference.logits import make_predict_step, predict_rows
from distilbert_jax.io import files, untrusted
from distilbert_jax.io.console import console
from distilbert_jax.train.finetune.models import match_labels
from distilbert_jax.train.finetune.setup import has_labels, load_split, make_task_tokenizer

PER_DEVICE_BATCH_SIZE = 32  # rows


def evaluate(
    pretrained: Pretrained,
    task: Task,
    *,
    split: str,
    output_dir: pathlib.Path,
    window_overlap: int | None = None,
    no_answer_threshold: float | None = None,
) -> dict[str, float]:
    """Predicts a split of a task, prints the metrics, and writes the predictions to `output_dir`/TASK-SPLIT.SUFFIX.

    Args:
        pretrained: the fine-tuned model.
        task: the task.
        split: the name of the split.
        output_dir: the folder for the predictions; it is created if it does not exist.
        window_overlap: tokens that neighbouring windows of a long text share; None cuts long texts.
        no_answer_threshold: only for tasks whose questions may have no answer: the margin above which "no answer" is
            predicted. None keeps the task's default of 0.

    Returns:
        The metrics in per cent; empty if the split has no labels.

    Raises:
        ValueError: the model has no head for the task, or the threshold does not apply to it.
    """
    untrusted.check_file_name(split, what="--split")
    output_dir = files.expand_path(output_dir)
    task_type, mesh = _set_threshold(task, no_answer_threshold), make_mesh()
    model = match_labels(load_pretrained(pretrained, head=task_type.head), task_type)
    if not model.has_head:
        raise ValueError(
            f"{model.folder} has no {task_type.head} head for the answers of {task.name}; fine-tune it first:\n"
            f"  python -m distilbert_jax finetune {pretrained.name_or_path} --task {task.name}=FOLDER"
        )
    length = min(task.recipe.max_length, model.config.max_positions)
    data = load_split(task, split, make_task_tokenizer(model, max_length=length, window_overlap=window_overlap))
    console.print(f"{task.name}, {split}: {data.encoded.format_truncation()}", markup=False)
    apply: Any = model.module.apply
    predict_step = make_predict_step(apply, mesh)
    layout = BatchLayout(accumulation=1, rows=PER_DEVICE_BATCH_SIZE * mesh.size)
    logits = predict_rows(
        predict_step, model.params, data.encoded.rows, layout=layout, mesh=mesh, label=f"evaluating {split}"
    )
    answers = task_type.decode(data.examples, data.encoded.rows, logits)
    suffix, text = task_type.format_submission(data.examples, answers)
    output_dir.mkdir(parents=True, exist_ok=True)
    path = output_dir / f"{task.name}-{split}{suffix}"
    with files.write_atomically(path) as partial:
        partial.write_text(text, encoding="utf-8")
    metrics = task_type.compute_metrics(task_type.per_example(data.examples, answers)) if has_labels(data) else {}
    for name, value in metrics.items():
        console.print(f"  {name} {value:.2f}", markup=False)
    console.print(f"predictions written to {path}", markup=False)
    return metrics


def _set_threshold(task: Task, no_answer_threshold: float | None) -> TaskType:
    """Returns the task type with the threshold. Raises ValueError if its questions always have an answer."""
    task_type = task.task_type
    if no_answer_threshold is None:
        return task_type
    if not isinstance(task_type, SpanExtraction) or not task_type.no_answer:
        raise ValueError(
            f"--no-answer-threshold is for squad2, where a question may have no answer, not for {task.name}; "
            "leave it out"
        )
    return dataclasses.replace(task_type, threshold=no_answer_threshold)
