"""Evaluation of a fine-tuned model on a task: its metrics, and its predictions in the task's own file format."""

import dataclasses
import math
import pathlib
import re
from typing import Any

from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.data.batches import BatchLayout
from distilbert_jax.data.tasks.registry import Task
from distilbert_jax.data.tasks.split_hashes import hash_split
from distilbert_jax.data.tasks.task_types.base import TaskType
from distilbert_jax.data.tasks.task_types.span_extraction import SpanExtraction
from distilbert_jax.data.tasks.task_types.tagging import Tagging
from distilbert_jax.devices.mesh import make_mesh
from distilbert_jax.hub.load import PretrainedModel, load_pretrained
from distilbert_jax.inference.logits import make_predict_step, predict_rows
from distilbert_jax.io import files, untrusted
from distilbert_jax.io.console import console, print_warning
from distilbert_jax.messages import format_command
from distilbert_jax.train.finetune.models import format_label_mismatch, has_common_tags, match_labels, merge_tags
from distilbert_jax.train.finetune.setup import encode_split, has_labels, make_task_tokenizer

PER_DEVICE_BATCH_SIZE = 32  # rows
MAX_MODEL_NAME_CHARACTERS = 80  # of the name of a predictions file; the end is kept
HASH_CHARACTERS = 8  # of the name of a predictions file


def evaluate(
    pretrained: Pretrained,
    task: Task,
    *,
    split: str,
    output_dir: pathlib.Path,
    window_overlap: int | None = None,
    no_answer_threshold: float | None = None,
) -> dict[str, float]:
    """Predicts a split of a task, prints the metrics, and writes the predictions to a file.

    The file is `output_dir`/MODEL-TASK-SPLIT-HASH.SUFFIX. The hash is of everything that the predictions depend on, so
    those of another model, of other examples or with another threshold never replace them.

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
        ValueError: the model has no head for the task or one with other labels, the threshold does not apply to the
            task, or nothing can be written to `output_dir`.
    """
    untrusted.check_file_name(split, what="--split")
    output_dir = files.expand_path(output_dir)
    files.check_can_write(output_dir)
    mesh = make_mesh()
    model, task_type = _load_for_task(pretrained, task, _set_threshold(task, no_answer_threshold))
    length = min(task.recipe.max_length, model.config.max_positions)
    tokenizer = make_task_tokenizer(model, max_length=length, window_overlap=window_overlap)
    data = encode_split(task_type, task.read(split), tokenizer)
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
    depends_on = [
        *model.file_hashes.values(),
        *(hash_split(data.examples, task_type.labels), length, window_overlap, no_answer_threshold),
    ]
    digest = files.json_sha256(depends_on)[:HASH_CHARACTERS]
    path = output_dir / f"{_format_model_name(pretrained.name_or_path)}-{task.name}-{split}-{digest}{suffix}"
    with files.write_atomically(path) as partial:
        partial.write_text(text, encoding="utf-8")
    metrics = task_type.compute_metrics(task_type.per_example(data.examples, answers)) if has_labels(data) else {}
    for name, value in metrics.items():
        console.print(f"  {name} {f'{value:.2f}' if math.isfinite(value) else '–'}", markup=False)
    if not metrics:
        console.print("  no metrics, because at least one example has no label", markup=False)
    console.print(f"predictions written to {path}", markup=False)
    return metrics


def _load_for_task(pretrained: Pretrained, task: Task, task_type: TaskType) -> tuple[PretrainedModel, TaskType]:
    """Loads a fine-tuned model, and fits its labels and those of the task to each other.

    Raises:
        ValueError: the model has no head for the task, or one with other labels.
    """
    loaded = load_pretrained(pretrained, head=task_type.head)
    model = match_labels(loaded, task_type)
    if model.has_head:
        return model, task_type
    command = f"  {format_command('finetune', pretrained.name_or_path, '--task', f'{task.name}=FOLDER')}"
    if not loaded.has_head:
        raise ValueError(
            f"{model.folder} has no {task_type.head} head for the answers of {task.name}; fine-tune it first:\n"
            f"{command}"
        )
    if isinstance(task_type, Tagging) and has_common_tags(loaded, task_type):
        print_warning(
            f"{task.name}: {format_label_mismatch(loaded, task_type)}. The model never predicts a tag that only the "
            "task has. A tag that only the model has counts as a wrong prediction."
        )
        return loaded, merge_tags(loaded, task_type)
    raise ValueError(
        f"{model.folder}: the labels of its {task_type.head} head are not those of {task.name}: "
        f"{format_label_mismatch(loaded, task_type)}. Where they mean the same, rename them in id2label of its "
        f"config.json; otherwise fine-tune the model:\n{command}"
    )


def _format_model_name(name_or_path: str) -> str:
    """Returns the folder or Hub id of a model as a part of a file name, such as "runs-quickstart-export"."""
    name = re.sub(r"[^\w.]+|\.\.+", "-", name_or_path).strip("-.")
    return name[-MAX_MODEL_NAME_CHARACTERS:].strip("-.") or "model"


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
