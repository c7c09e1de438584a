"""The retention table as Markdown, LaTeX, JSON and a picture."""

import dataclasses
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from rich.table import Table

from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.config.finetune import BUDGET_FIELDS
from distilbert_jax.evaluate.retention import Results, Retention, compute_retention, load_results, mean_and_std
from distilbert_jax.hub.load import load_pretrained
from distilbert_jax.io import files
from distilbert_jax.io.console import console
from distilbert_jax.performance.latency import make_single_text_call, measure_latencies

PAPER = {  # Sanh et al., 2019, tables 1 and 2: medians of five runs, GLUE dev
    "BERT-base": {
        "cola": 56.3, "mnli": 84.7, "mrpc": 88.6, "qnli": 91.8, "qqp": 89.6, "rte": 69.3, "sst2": 92.7, "stsb": 89.0,
        "wnli": 53.5, "imdb": 93.46, "squad": 88.5,
    },
    "DistilBERT": {
        "cola": 51.3, "mnli": 82.1, "mrpc": 87.5, "qnli": 89.2, "qqp": 88.5, "rte": 59.9, "sst2": 91.3, "stsb": 86.9,
        "wnli": 56.3, "imdb": 92.82, "squad": 85.8,
    },
}  # fmt: skip
CLAIM = 97.0  # per cent: written only where the lower bound holds


def show_finetuning_results(results: Sequence[Mapping[str, Any]]) -> None:
    """Mean and standard deviation over the seeds of each task, as fine-tuning gave them."""
    table = Table("task", "score", "seeds", "best epochs")
    for task in dict.fromkeys(result["task"] for result in results):
        of_task = [result for result in results if result["task"] == task]
        table.add_row(
            task,
            mean_and_std([result["main_score"] for result in of_task]),
            str(len(of_task)),
            ", ".join(str(result["best_epoch"]) for result in of_task),
        )
    console.print(table)


def write_retention(
    named: Mapping[str, pathlib.Path], into: pathlib.Path, *, tasks: Sequence[str] | None = None
) -> Retention:
    """Compares the results in some folders, the teacher's first, and writes retention.md, .tex, .json and .png. All
    their tasks have to be the same, or those that are named.
    """
    results = {name: load_results(folder, tasks) for name, folder in named.items()}
    retention = dataclasses.replace(compute_retention(results), milliseconds=_time(results, named))
    into.mkdir(parents=True, exist_ok=True)
    text = markdown(retention)
    (into / "retention.md").write_text(text, encoding="utf-8")
    (into / "retention.tex").write_text(latex(retention), encoding="utf-8")
    files.write_json(into / "retention.json", as_json(retention))
    draw(retention, into / "retention.png")
    console.print(text, markup=False)
    console.print(f"written to {into}/retention.md, .tex, .json and .png", markup=False)
    return retention


def cells(retention: Retention) -> list[list[str]]:
    """The table: a header, then a row a model; a mean ± standard deviation over seeds a task."""
    students = tuple(retention.kept)
    rows = [
        [
            "model",
            "parameters",
            _latency(),
            *retention.tasks,
            "macro",
            "kept of the macro",
            "kept above the commonest answer",
        ]
    ]
    for name, of_model in retention.results.items():
        means = [statistics.mean(results.main_scores) for results in of_model.values()]
        rows.append(
            [
                name,
                f"{max(results.parameters for results in of_model.values()):,}",
                f"{retention.milliseconds[name]:.1f} ms" if name in retention.milliseconds else "",
                *(mean_and_std(of_model[task].main_scores) for task in retention.tasks),
                f"{statistics.mean(means):.2f}",
                str(retention.kept[name]["macro"]) if name in students else "",
                str(retention.kept_above_floor[name]) if name in students else "",
            ]
        )
    for name in students:
        rows.append(
            [f"{name}: kept", "", "", *(str(retention.kept[name][task]) for task in retention.tasks), "", "", ""]
        )
    floor = [f"{retention.majority_baseline[task]:.2f}" for task in retention.tasks]
    rows.append(
        ["commonest answer", "", "", *floor, f"{statistics.mean(retention.majority_baseline.values()):.2f}", "", ""]
    )
    for name, scores in PAPER.items():
        if any(task in scores for task in retention.tasks):
            paper = [f"{scores[task]}" if task in scores else "" for task in retention.tasks]
            rows.append([f"paper: {name}", "", "", *paper, "", "", ""])
    return rows


def notes(retention: Retention) -> list[str]:
    """What has to be said beside the table."""
    first = next(iter(retention.results.values()))
    seeds = sorted(
        {len(results.main_scores) for of_model in retention.results.values() for results in of_model.values()}
    )
    lines = [
        f"Dev scores, the epoch that is best on dev; mean ± sd over {' or '.join(map(str, seeds))} seeds, "
        "never the best of them. "
        "Kept: per cent of the teacher's score, with a 95 % interval (paired bootstrap over seeds and examples).",
        "One setting a task, the same for every model; no search. "
        + "; ".join(
            f"{task}: {results.sizes['train']:,} training examples, {_format_budget(retention.budget[task])}"
            for task, results in first.items()
        )
        + ".",
    ]
    for name, kept in retention.kept.items():
        if kept["macro"].low >= CLAIM:
            lines.append(f"{name} keeps ≥ {CLAIM:.0f} %: the lower bound is {kept['macro'].low:.1f} %.")
    if any(row[0].startswith("paper: ") for row in cells(retention)):
        lines.append("Rows marked paper are those of Sanh et al. (2019): other models and data, for reference only.")
    return lines


def markdown(retention: Retention) -> str:
    header, *rows = cells(retention)
    lines = [header, ["---"] * len(header), *rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return table + "\n\n" + "\n\n".join(notes(retention)) + "\n"


def latex(retention: Retention) -> str:
    r"""A tabular for \usepackage{booktabs}."""
    escape = lambda text: text.replace("%", r"\%").replace("_", r"\_").replace("±", r"$\pm$").replace("≥", r"$\geq$")
    header, *rows = [[escape(cell) for cell in row] for row in cells(retention)]
    body = " \\\\\n".join(" & ".join(row) for row in rows)
    return (
        f"\\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}\n\\toprule\n{' & '.join(header)} \\\\\n\\midrule\n"
        f"{body} \\\\\n\\bottomrule\n\\end{{tabular}}\n" + "".join(f"% {escape(line)}\n" for line in notes(retention))
    )


def as_json(retention: Retention) -> dict[str, Any]:
    return {
        "scores": {
            name: {task: list(results.main_scores) for task, results in of_model.items()}
            for name, of_model in retention.results.items()
        },
        "kept": {name: {task: dataclasses.asdict(k) for task, k in of.items()} for name, of in retention.kept.items()},
        "kept_above_commonest_answer": {name: dataclasses.asdict(k) for name, k in retention.kept_above_floor.items()},
        "commonest_answer": dict(retention.majority_baseline),
        "milliseconds": dict(retention.milliseconds),
        "budget": {task: dict(settings) for task, settings in retention.budget.items()},
    }


def draw(retention: Retention, path: pathlib.Path) -> None:
    """Per cent kept of each task, with its interval."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    names = [*retention.tasks, "macro"]
    for number, (student, kept) in enumerate(retention.kept.items()):
        at = [i + 0.15 * (number - (len(retention.kept) - 1) / 2) for i in range(len(names))]
        middle = [kept[name].percent for name in names]
        reach = [[kept[n].percent - kept[n].low for n in names], [kept[n].high - kept[n].percent for n in names]]
        axes.errorbar(
            at, middle, yerr=[[max(0.0, x) for x in side] for side in reach], fmt="o", capsize=3, label=student
        )
    axes.axhline(100, color="0.5", linewidth=1)
    axes.set(xticks=range(len(names)), xticklabels=names, ylabel="per cent of the teacher's score")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3, axis="y")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _latency() -> str:
    return f"latency, 1 text of 128 tokens, {jax.default_backend()}"


def _time(results: Mapping[str, Mapping[str, Results]], named: Mapping[str, pathlib.Path]) -> dict[str, float]:
    """Milliseconds of each model whose weights are still there, on the first task, taking turns."""
    task, of_task = next(iter(next(iter(results.values())).items()))
    folders = {name: folder / task / "seed0" / "model" for name, folder in named.items()}
    models = {
        name: load_pretrained(Pretrained(str(folder)), head=of_task.form.head)
        for name, folder in folders.items()
        if folder.is_dir()
    }
    return dict(
        zip(models, measure_latencies([make_single_text_call(model) for model in models.values()]), strict=True)
    )


def _format_budget(settings: Mapping[str, Any]) -> str:
    """Formats the settings that the table states, such as "epochs 3, batch 32"."""
    return ", ".join(f"{path.split('.')[-1]} {settings[path]}" for path in BUDGET_FIELDS)
