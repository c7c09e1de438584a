"""What a run came to: teacher beside student in one table, their words for a gap, and a picture of the losses."""

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
from distilbert_jax.runtime.run_format import check_run_format


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
    """Prints the report of a finished run, and draws `losses.png` in its folder. ValueError where the run has not
    come to its end, or where another version of the package wrote it.
    """
    path = folder / "results.json"
    if not path.is_file():
        raise ValueError(f"{folder} is not the folder of a finished run: it has no results.json")
    check_run_format(folder)
    results = read_results(path)
    models = {"student": load_pretrained(Pretrained(str(folder / "export")))}
    if results["teacher"]:
        models = {
            "teacher": load_pretrained(
                Pretrained(results["teacher"]["folder"], revision=results["teacher"]["revision"])
            )
        } | models
    asked = {name: make_fill_mask(model) for name, model in models.items()}
    text = np.ones(8, int)  # padded: the length makes no difference
    milliseconds = measure_latencies([functools.partial(one, text, 1) for one in asked.values()])
    console.print(_table(models, results["final"], dict(zip(models, milliseconds, strict=True))))
    for sentence in EXAMPLE_SENTENCES:
        console.print(sentence, markup=False)
        for name, model in models.items():
            best = fill_mask(asked[name], model.tokenizer, sentence)
            console.print(f"  {name:8} " + "  ".join(f"{word} {share:.0%}" for word, share in best), markup=False)
    draw(folder)
    export = folder / "export"
    console.print(
        f"\nlosses drawn in {folder / 'losses.png'}; the student is in {export}. In transformers:", markup=False
    )
    load = f'from transformers import pipeline; print(pipeline("fill-mask", "{export}")("{EXAMPLE_SENTENCES[0]}"))'
    console.print(f"  python -c '{load}'", markup=False)


def read_results(path: pathlib.Path) -> RunResults:
    """Returns the results.json of a run. Raises ValueError if it is damaged."""
    results: RunResults = untrusted.read_json(path, RunResults)
    needed = STUDENT_KEYS + (TEACHER_KEYS if results["teacher"] else ())
    if missing := [key.name for key in needed if key.name not in results["final"]]:
        raise ValueError(f"{path}: final does not state {missing[0]!r}")
    return results


def _table(
    models: Mapping[str, PretrainedModel], final: Mapping[str, float], milliseconds: Mapping[str, float]
) -> Table:
    title = f"{final[log_keys.MASKED_TOKENS.name]:,.0f} masked tokens of held-out rows"
    table = Table("", *models, title=title, title_justify="left")
    accuracy = {"student": log_keys.ACCURACY, "teacher": log_keys.TEACHER_ACCURACY}
    perplexity = {"student": log_keys.PERPLEXITY, "teacher": log_keys.TEACHER_PERPLEXITY}

    def format_fraction(key: log_keys.LogKey) -> str:
        return f"{final[key.name]:.2%} ± {final[log_keys.STDERR[key].name]:.2%}"

    row = lambda label, cell: table.add_row(label, *(cell(name) for name in models))
    row("parameters", lambda name: f"{count_parameters(models[name].params):,}")
    row("accuracy", lambda name: format_fraction(accuracy[name]))
    row("perplexity", lambda name: f"{final[perplexity[name].name]:.1f}")
    if "teacher" in models:
        agreement = format_fraction(log_keys.TEACHER_AGREEMENT)
        row("top-1 agreement", lambda name: "" if name == "teacher" else agreement)
    row(f"latency, 1 text, {jax.default_backend()}", lambda name: f"{milliseconds[name]:.1f} ms")
    return table


def draw(folder: pathlib.Path) -> None:
    """The losses of the training rows, and the accuracy on held-out ones, over the steps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    trained, evaluated = metrics_log.read_log(folder, "train"), metrics_log.read_log(folder, "eval")
    if not trained or not evaluated:
        raise ValueError(f"{folder / 'log.jsonl'} has no losses, or no measurements, to draw")
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for name in trained[-1]:
        if of_loss := log_keys.LOSS_MEAN.match(name):
            left.plot(
                [entry["step"] for entry in trained],
                [entry.get(name, np.nan) for entry in trained],
                label=of_loss["loss"],
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
