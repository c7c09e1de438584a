"""The model card of an export: README.md with the Hub's metadata and what was done to get the model."""

from collections.abc import Mapping, Sequence
from typing import Any

from distilbert_jax import log_keys

_METADATA = """---
library_name: transformers
pipeline_tag: fill-mask
tags:
- distillation
- {model_type}
{base}---
"""

_BODY = """# {name}

{what}

```python
from transformers import pipeline

pipeline("fill-mask", model="FOLDER_OR_ID")("The capital of France is [MASK].")
```

## Held-out masked tokens

Measured on {masked_tokens:,.0f} masked tokens of {rows:,.0f} held-out rows of {sequence_length} tokens: masks uniform over
real tokens, 15 % of each row, of these 80 % [MASK], 10 % another word, 10 % as they are.

{table}

## How it was made

{origin}

| corpus | licence | SHA-256 of its files, first and last |
|---|---|---|
{sources}

{documents:,} documents ({duplicates:,} duplicates dropped), {tokens:,} tokens, {real_share:.2%} of the packed rows.
The experiment:

```
{description}```

## Limits

It repeats what its teacher and its corpus hold, prejudice included. Only the figures above were measured here.
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
    manifest: Mapping[str, Any],
    description: str,
) -> str:
    """The card as text. `base_model` is a Hub id, `measured` the last measurement on held-out rows, `manifest` the
    corpus's.
    """
    what = f"A {model_type} model trained on masked words" + (
        f", distilled from `{teacher}`." if teacher else f", starting from `{start}`."
    )
    totals = manifest["totals"]
    body = _BODY.format(
        name=name,
        what=what,
        masked_tokens=measured[log_keys.MASKED_TOKENS.name],
        rows=measured[log_keys.ROWS.name],
        sequence_length=manifest["settings"]["sequence_length"],
        table=_table(measured),
        origin="\n".join(f"- {line}" for line in origin),
        sources="\n".join(_source(source, license, manifest) for source, license in manifest["licenses"].items()),
        documents=totals["documents"],
        duplicates=totals["duplicates"],
        tokens=totals["tokens"],
        real_share=totals["real_share"],
        description=description,
    )
    base = f"base_model: {base_model}\n" if base_model else ""
    return _METADATA.format(model_type=model_type, base=base) + body


_TASK = """---
library_name: transformers
pipeline_tag: {pipeline}
tags:
- {model_type}
{base}---
"""

_TASK_BODY = """# {task}

{start} fine-tuned on {task}{taught}.

| dev split, the epoch that was best on it | score |
|---|---|
{scores}

What was done:

```
{description}```
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
    start: str,
    teacher: str | None,
    base_model: str | None,
    head: str,
    measured: Mapping[str, float],
    description: str,
) -> str:
    """The card of a model that was fine-tuned; `start` says in words what it was before, `measured` are its scores on
    the dev splits.
    """
    base = f"base_model: {base_model}\n" if base_model else ""
    return _TASK.format(pipeline=_PIPELINES[head], model_type=model_type, base=base) + _TASK_BODY.format(
        task=task,
        start=start,
        taught=f", and distilled from `{teacher}`" if teacher else "",
        scores="\n".join(f"| {name} | {value:.2f} |" for name, value in measured.items()),
        description=description,
    )


def _table(measured: Mapping[str, float]) -> str:
    def format_fraction(key: log_keys.LogKey) -> str:
        return f"{measured[key.name]:.2%} ± {measured[log_keys.STDERR[key].name]:.2%}"

    rows = ["| | accuracy | perplexity |", "|---|---|---|"]
    accuracy, perplexity = format_fraction(log_keys.ACCURACY), measured[log_keys.PERPLEXITY.name]
    rows.append(f"| this model | {accuracy} | {perplexity:.2f} |")
    if log_keys.TEACHER_ACCURACY.name in measured:
        accuracy, perplexity = format_fraction(log_keys.TEACHER_ACCURACY), measured[log_keys.TEACHER_PERPLEXITY.name]
        rows.append(f"| its teacher | {accuracy} | {perplexity:.2f} |")
        rows.append(f"\nTheir top-1 agreement is {format_fraction(log_keys.TEACHER_AGREEMENT)} of the masked tokens.")
    return "\n".join(rows)


def _source(name: str, license: str, manifest: Mapping[str, Any]) -> str:
    sums = [file["sha256"][:12] for file in manifest["files"] if file["source"] == name]
    return f"| {name} ({len(sums)} files) | {license} | {sums[0]}, {sums[-1]} |"
