"""The report of a finished run.

It shows student and teacher in one table, their words for masked tokens, and a plot of the losses.
"""

import functools
import pathlib
from collections.abc import Mapping
from typing import TypedDict

import jax
import numpy as np
from rich.table import Table

from distilbert_jax import log_keys
from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.hub.load import PretrainedModel, load_pretrained
from distilbert_jax.inference.fill_mask import EXAMPLE_SENTENCES, fill_mask, make_fill_mask
from distilbert_jax.io import files, untrusted
from distilbert_jax.io.console import console
from distilbert_jax.performance.latency import count_parameters, measure_latencies
from distilbert_jax.runtime import metrics_log
from distilbert_jax.runtime.run_folder import read_identity


class TeacherName(TypedDict):
    """The folder or Hub id of a run's teacher."""

    folder: str
    revision: str


class RunResults(TypedDict):
    """The parts of results.json that the report reads."""

    teacher: TeacherName | None
    final: dict[str, float]


STUDENT_KEYS = (log_keys.MASKED_TOKENS, log_keys.ACCURACY, log_keys.ACCURACY_STDERR, log_keys.PERPLEXITY)
"""Keys of the final evaluation that the report needs."""

TEACHER_KEYS = (
    log_keys.TEACHER_ACCURACY,
    log_keys.TEACHER_ACCURACY_STDERR,
    log_keys.TEACHER_PERPLEXITY,
    log_keys.TEACHER_AGREEMENT,
    log_keys.TEACHER_AGREEMENT_STDERR,
)
"""Keys that it needs as well if the run has a teacher."""


def show_report(folder: pathlib.Path) -> None:
    """Prints the report of a finished run, and draws `losses.png` in its folder.

    Args:
        folder: the folder of the run.

    Raises:
        ValueError: the run has not finished, or another version of the package wrote it.
    """
    folder = files.expand_path(folder)
    path = folder / "results.json"
    if not path.is_file():
        raise ValueError(
            f"{folder} is not the folder of a finished run: it has no results.json; run distill to the end first"
        )
    read_identity(folder)
    results = read_results(path)
    models = {"student": load_pretrained(Pretrained(str(folder / "export")))}
    if results["teacher"]:
        models = {
            "teacher": load_pretrained(
                Pretrained(results["teacher"]["folder"], revision=results["teacher"]["revision"])
            )
        } | models
    predict = {name: make_fill_mask(model) for name, model in models.items()}
    # Every text is padded to the same length, so which tokens are timed makes no difference.
    text = np.ones(8, int)
    milliseconds = measure_latencies([functools.partial(function, text, 1) for function in predict.values()])
    console.print(_make_table(models, results["final"], dict(zip(models, milliseconds, strict=True))))
    for sentence in EXAMPLE_SENTENCES:
        console.print(sentence, markup=False)
        for name, model in models.items():
            words = fill_mask(predict[name], model.tokenizer, sentence)
            console.print(
                f"  {name:8} " + "  ".join(f"{word} {probability:.0%}" for word, probability in words), markup=False
            )
    draw_losses(folder)
    export = folder / "export"
    console.print(
        f"\nThe losses are drawn in {folder / 'losses.png'}. The student is in {export}. To use it with Transformers:",
        markup=False,
    )
    code = f'from transformers import pipeline; print(pipeline("fill-mask", "{export}")("{EXAMPLE_SENTENCES[0]}"))'
    console.print(f"  python -c '{code}'", markup=False)


def read_results(path: pathlib.Path) -> RunResults:
    """Returns the content of results.json. Raises ValueError if it is damaged or lacks a number."""
    results: RunResults = untrusted.read_json(path, RunResults)
    needed = STUDENT_KEYS + (TEACHER_KEYS if results["teacher"] else ())
    if missing := [key.name for key in needed if key.name not in results["final"]]:
        raise ValueError(f"{path}: final has no field {missing[0]!r}; run distill again")
    return results


def _make_table(
    models: Mapping[str, PretrainedModel], final: Mapping[str, float], milliseconds: Mapping[str, float]
) -> Table:
    """Returns the table with one column for each model.

    Args:
        models: {role: model}.
        final: the final evaluation in results.json.
        milliseconds: {role: latency of one text}.
    """
    title = f"{final[log_keys.MASKED_TOKENS.name]:,.0f} masked tokens of held-out rows"
    table = Table("", *models, title=title, title_justify="left")
    accuracy = {"student": log_keys.ACCURACY, "teacher": log_keys.TEACHER_ACCURACY}
    perplexity = {"student": log_keys.PERPLEXITY, "teacher": log_keys.TEACHER_PERPLEXITY}

    def format_fraction(key: log_keys.LogKey) -> str:
        """Returns a fraction and its standard error in per cent."""
        return f"{final[key.name]:.2%} ± {final[log_keys.STDERR[key].name]:.2%}"

    table.add_row("parameters", *(f"{count_parameters(model.params):,}" for model in models.values()))
    table.add_row("accuracy", *(format_fraction(accuracy[role]) for role in models))
    table.add_row("perplexity", *(f"{final[perplexity[role].name]:.1f}" for role in models))
    if "teacher" in models:
        agreement = format_fraction(log_keys.TEACHER_AGREEMENT)
        table.add_row("top-1 agreement", *("" if role == "teacher" else agreement for role in models))
    table.add_row(f"latency, 1 text, {jax.default_backend()}", *(f"{milliseconds[role]:.1f} ms" for role in models))
    return table


def draw_losses(folder: pathlib.Path) -> None:
    """Draws the training losses and the held-out accuracy of a run over its steps, as `losses.png` in its folder.

    Raises:
        ValueError: the log has no training steps or no evaluations.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    trained, evaluated = metrics_log.read_log(folder, "train"), metrics_log.read_log(folder, "eval")
    if not trained or not evaluated:
        raise ValueError(
            f"{folder / 'log.jsonl'} has {len(trained)} training entries and {len(evaluated)} evaluations, but at "
            "least one of each is needed to draw the losses; set log_every and eval_every smaller and run again"
        )
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for name in trained[-1]:
        if match := log_keys.LOSS_MEAN.match(name):
            left.plot(
                [entry["step"] for entry in trained],
                [entry.get(name, np.nan) for entry in trained],
                label=match["loss"],
                linewidth=1,
            )
    left.set(xlabel="step", title="losses, training rows", yscale="log")
    left.yaxis.set_major_formatter("{x:g}")
    left.yaxis.set_minor_formatter("{x:g}")
    curves = {
        "teacher": log_keys.TEACHER_ACCURACY,
        "student": log_keys.ACCURACY,
        "top-1 agreement": log_keys.TEACHER_AGREEMENT,
    }
    for label, key in curves.items():
        if key.name in evaluated[-1]:
            right.plot(
                [entry["step"] for entry in evaluated],
                [entry.get(key.name, np.nan) for entry in evaluated],
                marker=".",
                label=label,
            )
    right.set(xlabel="step", title="masked tokens, held-out rows", ylim=(0, None))
    for axes in (left, right):
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
    with files.write_atomically(folder / "losses.png") as partial:
        figure.savefig(partial, format="png", dpi=120)
    pyplot.close(figure)
