"""Writes model cards: the README.md of a model, with the metadata of the Hub and a description of its training."""

import math
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from distilbert_jax import log_keys

_DISTILLATION_METADATA = """---
library_name: transformers
pipeline_tag: fill-mask
tags:
- distillation
- {model_type}
{base}---
"""

_DISTILLATION_BODY = """# {name}

{summary}
{warning}
```python
from transformers import pipeline

pipeline("fill-mask", model="FOLDER_OR_ID")("The capital of France is [MASK].")
```

## Evaluation

The model was evaluated on {masked_tokens:,.0f} masked tokens in {rows:,.0f} held-out rows of {sequence_length} tokens.
In each row, 15 % of the tokens were chosen at random. Of these, 80 % were replaced by [MASK], 10 % were replaced by a
random token, and 10 % were left unchanged.

{table}

## Training

The model was initialized as follows:

{origin}

It was trained on this corpus:

| source | license | SHA-256 of the first and the last file |
|---|---|---|
{sources}

The corpus has {documents:,} documents, after {duplicates:,} duplicates were removed. They contain {tokens:,} tokens,
which fill {real_share:.2%} of the packed rows. The rest is padding.

These are all settings of the experiment:

```
{description}```

## Limitations

The model reproduces what its {influences} contain, including prejudices. Only the figures above were measured. The
model was not tested for any other use.
"""


def distillation_card(
    *,
    name: str,
    model_type: str,
    teacher: str | None,
    start: str,
    base_model: str | None,
    origin: Sequence[str],
    measured: Mapping[str, float],
    warning: str | None,
    manifest: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> str:
    """Returns the model card of a student that was trained on masked tokens.

    Args:
        name: the name of the experiment.
        model_type: the model_type of the student in config.json, such as "distilbert".
        teacher: the public name of the teacher, or None.
        start: the public name of the model from which the student took its initial weights.
        base_model: the Hub id for the metadata, or None.
        origin: where the initial weights come from, one entry for each part of the model.
        measured: the last evaluation on held-out rows, by log key.
        warning: a sentence that says that the model is of no use, or None.
        manifest: the manifest of the corpus.
        settings: the settings of the experiment by field path. Their folders are left out.
    """
    summary = f"This {model_type} model predicts masked tokens. It was " + (
        f"distilled from `{teacher}`." if teacher else f"trained without a teacher, starting from `{start}`."
    )
    totals = manifest["totals"]
    body = _DISTILLATION_BODY.format(
        name=name,
        summary=summary,
        warning=f"\n**Warning.** {warning}\n" if warning else "",
        masked_tokens=measured[log_keys.MASKED_TOKENS.name],
        rows=measured[log_keys.ROWS.name],
        sequence_length=manifest["settings"]["sequence_length"],
        table=_format_scores(measured),
        origin="\n".join(f"- {line}" for line in origin),
        sources="\n".join(
            _format_source(source, license, manifest) for source, license in manifest["licenses"].items()
        ),
        documents=totals["documents"],
        duplicates=totals["duplicates"],
        tokens=totals["tokens"],
        real_share=totals["real_share"],
        description=_format_settings(settings),
        influences="teacher and its corpus" if teacher else "initial weights and its corpus",
    )
    base = f"base_model: {base_model}\n" if base_model else ""
    return _DISTILLATION_METADATA.format(model_type=model_type, base=base) + body


_FINETUNING_METADATA = """---
library_name: transformers
pipeline_tag: {pipeline}
tags:
- {model_type}
{base}---
"""

_FINETUNING_BODY = """# {task}

This model was fine-tuned on {task}, starting from {start}.{teacher}

After each epoch, the model was evaluated on the dev splits. These are the scores after the best epoch, whose weights
this model has{test}:

| score | value |
|---|---|
{scores}
{missing_scores}
These are all settings of the fine-tuning:

```
{description}```
"""

_PATH_FIELDS = ("workdir", "shard_dir", "task_dir", "paths", "data_dir")
"""The fields of a run that hold paths."""

_ABSOLUTE_PATH = re.compile(r"(?<![\w./])~?/[^\s'\",;()\[\]]+")
"""An absolute path inside another text, such as that of a source which the user defined."""

_MISSING_SCORES = """
A score that is "none" is not defined. There is no best threshold if it is best to predict "no answer" always.
"""

_PIPELINES = {
    "sequence_classification": "text-classification",
    "token_classification": "token-classification",
    "question_answering": "question-answering",
    "multiple_choice": "multiple-choice",
}


def finetuning_card(
    *,
    task: str,
    model_type: str,
    source: str,
    random_init: bool,
    teacher: str | None,
    base_model: str | None,
    head: str,
    test: Sequence[str],
    scores: Mapping[str, float],
    settings: Mapping[str, Any],
) -> str:
    """Returns the model card of a model that was fine-tuned on a task.

    Args:
        task: the name of the task.
        model_type: the model_type of the model in config.json, such as "distilbert".
        source: the public name of the model that was fine-tuned.
        random_init: whether only the architecture and the tokenizer of `source` were used.
        teacher: the public name of the teacher, or None.
        base_model: the Hub id for the metadata, or None.
        head: the name of the head, which determines the pipeline of the Hub.
        test: the splits that were evaluated only once, after the best epoch.
        scores: the scores by SPLIT/METRIC; one that is not finite is not defined.
        settings: the settings of the fine-tuning by field path. Their folders are left out.
    """
    base = f"base_model: {base_model}\n" if base_model else ""
    metadata = _FINETUNING_METADATA.format(pipeline=_PIPELINES[head], model_type=model_type, base=base)
    return metadata + _FINETUNING_BODY.format(
        task=task,
        start=f"random weights, with the architecture of `{source}`" if random_init else f"`{source}`",
        teacher=f" It also learned from the teacher `{teacher}`." if teacher else "",
        test=f". It was evaluated on {' and '.join(test)} only once" if test else "",
        scores="\n".join(
            f"| {name} | {f'{value:.2f}' if math.isfinite(value) else 'none'} |" for name, value in scores.items()
        ),
        missing_scores="" if all(map(math.isfinite, scores.values())) else _MISSING_SCORES,
        description=_format_settings(settings),
    )


def _format_settings(settings: Mapping[str, Any]) -> str:
    """Returns the settings of a run, one per line, without the folders of this machine: paths keep their last part."""
    lines = []
    for field, value in settings.items():
        name = field.rpartition(".")[2]
        if isinstance(value, list):
            value = tuple(_remove_folders(item, name) for item in value)
        lines.append(f"{field}: {_remove_folders(value, name)}\n")
    return "".join(lines)


def _remove_folders(value: Any, name: str) -> Any:
    """Returns the value of the field `name` with the last part in place of each path. A Hub id is not a path."""
    if not isinstance(value, str):
        return value
    looks_local = value.startswith((".", "~")) or value.count("/") > 1 or pathlib.Path(value).expanduser().exists()
    if name in _PATH_FIELDS or (name == "name_or_path" and looks_local):
        return pathlib.PurePath(value).name
    return _ABSOLUTE_PATH.sub(lambda match: pathlib.PurePath(match[0]).name, value)


def _format_scores(measured: Mapping[str, float]) -> str:
    """Returns a Markdown table with accuracy and perplexity of the model and, if there is one, its teacher."""

    def format_fraction(key: log_keys.LogKey) -> str:
        return f"{measured[key.name]:.2%} ± {measured[log_keys.STDERR[key].name]:.2%}"

    def format_perplexity(key: log_keys.LogKey) -> str:
        return log_keys.format_perplexity(measured[key.name], digits=2)

    lines = ["| model | accuracy ± standard error | perplexity |", "|---|---|---|"]
    accuracy, perplexity = format_fraction(log_keys.ACCURACY), format_perplexity(log_keys.PERPLEXITY)
    lines.append(f"| this model | {accuracy} | {perplexity} |")
    if log_keys.TEACHER_ACCURACY.name in measured:
        accuracy = format_fraction(log_keys.TEACHER_ACCURACY)
        perplexity = format_perplexity(log_keys.TEACHER_PERPLEXITY)
        lines.append(f"| its teacher | {accuracy} | {perplexity} |")
        agreement = format_fraction(log_keys.TEACHER_AGREEMENT)
        lines.append(f"\nBoth models predict the same token at {agreement} of the masked tokens (top-1 agreement).")
    return "\n".join(lines)


def _format_source(name: str, license: str, manifest: Mapping[str, Any]) -> str:
    """Returns the line of the corpus table for one source."""
    hashes = [file["sha256"][:12] for file in manifest["files"] if file["source"] == name]
    return f"| {name} ({len(hashes)} files) | {license} | {hashes[0]}, {hashes[-1]} |"
