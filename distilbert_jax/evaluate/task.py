"""A fine-tuned model on a task: its scores, and its answers in the task's own format."""

import dataclasses
import pathlib
from typing import Any

from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.data.batches import BatchLayout
from distilbert_jax.data.tasks.registry import Task
from distilbert_jax.data.tasks.task_types.span_extraction import SpanExtraction
from distilbert_jax.devices.mesh import make_mesh
from distilbert_jax.hub.load import load_pretrained
from distilbert_jax.inference.logits import make_predict_step, predict_rows
from distilbert_jax.io import files, untrusted
from distilbert_jax.io.console import console
from distilbert_jax.train.finetune.models import match_labels
from distilbert_jax.train.finetune.setup import has_labels, load_split, make_task_tokenizer

PER_DEVICE_BATCH_SIZE = 32  # a device, of a batch


def evaluate(
    wanted: Pretrained,
    task: Task,
    *,
    split: str,
    into: pathlib.Path,
    windows: int | None = None,
    threshold: float | None = None,
) -> dict[str, float]:
    """Prints and returns the scores on a split, none where it has no labels; writes the answers to
    `into`/TASK-SPLIT.SUFFIX. `threshold` is that of a task where there may be no answer. ValueError where the model has
    no head for the task.
    """
    untrusted.check_file_name(split, what="--split")
    form, mesh = task.task_type, make_mesh()
    if threshold is not None:
        if not isinstance(form, SpanExtraction) or not form.no_answer:
            raise ValueError(
                f"--no-answer-threshold is for squad2, where a question may have no answer, not for {task.name}"
            )
        form = dataclasses.replace(form, threshold=threshold)
    model = match_labels(load_pretrained(wanted, head=form.head), form)
    if not model.has_head:
        raise ValueError(
            f"{model.folder} has no {form.head} head for the answers of {task.name}; fine-tune it first:\n"
            f"  python -m distilbert_jax finetune {wanted.name_or_path} --task {task.name}=FOLDER"
        )
    length = min(task.recipe.max_length, model.config.max_positions)
    data = load_split(task, split, make_task_tokenizer(model, max_length=length, window_overlap=windows))
    console.print(f"{task.name}, {split}: {data.encoded.format_truncation()}", markup=False)
    apply: Any = model.module.apply
    scorer = make_predict_step(apply, mesh)
    layout = BatchLayout(accumulation=1, rows=PER_DEVICE_BATCH_SIZE * mesh.size)
    scores = predict_rows(scorer, model.params, data.encoded.rows, layout=layout, mesh=mesh, label=f"measuring {split}")
    answers = form.decode(data.examples, data.encoded.rows, scores)
    suffix, text = form.format_submission(data.examples, answers)
    into.mkdir(parents=True, exist_ok=True)
    path = into / f"{task.name}-{split}{suffix}"
    with files.write_atomically(path) as partial:
        partial.write_text(text, encoding="utf-8")
    measured = form.compute_metrics(form.per_example(data.examples, answers)) if has_labels(data) else {}
    for name, value in measured.items():
        console.print(f"  {name} {value:.2f}", markup=False)
    console.print(f"answers written to {path}", markup=False)
    return measured
