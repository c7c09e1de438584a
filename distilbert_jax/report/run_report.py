"""What a run came to: teacher beside student in one table, their words for a gap, and a picture of the losses."""

import functools
import pathlib
from collections.abc import Mapping
from typing import Any, TypedDict

import jax
import numpy as np
from rich.table import Table

from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.hub.load import Model, read
from distilbert_jax.inference.fill_mask import SENTENCES, ask, best_words
from distilbert_jax.io import files, untrusted
from distilbert_jax.io.console import console
from distilbert_jax.performance.latency import latencies, parameters
from distilbert_jax.runtime import metrics_log


class Teacher(TypedDict):
    """Where a run's teacher is."""

    folder: str
    revision: str


class Measured(TypedDict):
    """What a student came to."""

    words: float
    accuracy: float
    accuracy_error: float
    perplexity: float


class MeasuredBeside(Measured):
    """And its teacher."""

    teacher_accuracy: float
    teacher_accuracy_error: float
    teacher_perplexity: float
    agreement: float
    agreement_error: float


class Alone(TypedDict):
    """What of a results.json is read again."""

    teacher: None
    measured: Measured


class Beside(TypedDict):
    """The same of a run with a teacher."""

    teacher: Teacher
    measured: MeasuredBeside


def show(folder: pathlib.Path) -> None:
    """Prints the report of a finished run, and draws `losses.png` in its folder. ValueError where the run has not
    come to its end.
    """
    path = folder / "results.json"
    if not path.is_file():
        raise ValueError(f"{folder} is not the folder of a finished run: it has no results.json")
    results = read_results(path)
    models = {"student": read(Pretrained(str(folder / "export")))}
    if results["teacher"]:
        models = {
            "teacher": read(Pretrained(results["teacher"]["folder"], revision=results["teacher"]["revision"]))
        } | models
    asked = {name: ask(model) for name, model in models.items()}
    text = np.ones(8, int)  # padded: the length makes no difference
    milliseconds = latencies([functools.partial(one, text, 1) for one in asked.values()])
    console.print(_table(models, results["measured"], dict(zip(models, milliseconds, strict=True))))
    for sentence in SENTENCES:
        console.print(sentence, markup=False)
        for name, model in models.items():
            best = best_words(asked[name], model.tokenizer, sentence)
            console.print(f"  {name:8} " + "  ".join(f"{word} {share:.0%}" for word, share in best), markup=False)
    draw(folder)
    export = folder / "export"
    console.print(
        f"\nlosses drawn in {folder / 'losses.png'}; the student is in {export}. In transformers:", markup=False
    )
    load = f'from transformers import pipeline; print(pipeline("fill-mask", "{export}")("{SENTENCES[0]}"))'
    console.print(f"  python -c '{load}'", markup=False)


def read_results(path: pathlib.Path) -> dict[str, Any]:
    """What a run wrote at its end. ValueError where it is damaged."""
    results: dict[str, Any] = untrusted.read_json(path, Beside | Alone)
    return results


def _table(models: Mapping[str, Model], measured: Mapping[str, float], milliseconds: Mapping[str, float]) -> Table:
    table = Table("", *models, title=f"{measured['words']:,.0f} masked words of held-out rows", title_justify="left")
    prefix = {"student": "", "teacher": "teacher_"}
    row = lambda label, cell: table.add_row(label, *(cell(name) for name in models))
    row("parameters", lambda name: f"{parameters(models[name].params):,}")
    row(
        "accuracy",
        lambda name: f"{measured[prefix[name] + 'accuracy']:.2%} ± {measured[prefix[name] + 'accuracy_error']:.2%}",
    )
    row("perplexity", lambda name: f"{measured[prefix[name] + 'perplexity']:.1f}")
    if "teacher" in models:
        row(
            "same first word",
            lambda name: (
                "" if name == "teacher" else f"{measured['agreement']:.2%} ± {measured['agreement_error']:.2%}"
            ),
        )
    row(f"latency, 1 text, {jax.default_backend()}", lambda name: f"{milliseconds[name]:.1f} ms")
    return table


def draw(folder: pathlib.Path) -> None:
    """The losses of the training rows, and the accuracy on held-out ones, over the steps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    trained, measured = metrics_log.read(folder, "train"), metrics_log.read(folder, "eval")
    if not trained or not measured:
        raise ValueError(f"{folder / 'log.jsonl'} has no losses, or no measurements, to draw")
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for name in [key for key in trained[-1] if key.startswith("loss/")]:
        left.plot(
            [entry["step"] for entry in trained],
            [entry.get(name, np.nan) for entry in trained],
            label=name.removeprefix("loss/"),
            linewidth=1,
        )
    left.set(xlabel="step", title="losses, training rows", yscale="log")
    left.yaxis.set_major_formatter("{x:g}")
    left.yaxis.set_minor_formatter("{x:g}")
    for name, label in (("teacher_accuracy", "teacher"), ("accuracy", "student"), ("agreement", "same first word")):
        if name in measured[-1]:
            right.plot(
                [entry["step"] for entry in measured],
                [entry.get(name, np.nan) for entry in measured],
                marker=".",
                label=label,
            )
    right.set(xlabel="step", title="masked words, held-out rows", ylim=(0, None))
    for axes in (left, right):
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
    with files.atomic(folder / "losses.png") as partial:
        figure.savefig(partial, format="png", dpi=120)
    pyplot.close(figure)
