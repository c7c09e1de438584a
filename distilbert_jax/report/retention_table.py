"""The results of fine-tuning as tables: scores for each task, and the retention table.

The retention table is written as Markdown, LaTeX, JSON and a plot.
"""

import dataclasses
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from rich.table import Table

from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.config.finetune import BUDGET_FIELDS
from distilbert_jax.data.tasks.task_types.base import format_main_metric
from distilbert_jax.evaluate.retention import (
    ModelTaskResults,
    Retention,
    compute_retention,
    format_mean_and_std,
    load_results,
)
from distilbert_jax.hub.load import load_pretrained
from distilbert_jax.io import files
from distilbert_jax.io.console import console
from distilbert_jax.io.folder_marker import check_owner, read_marker, write_marker
from distilbert_jax.performance.latency import make_single_text_call, measure_latencies

PAPER_SCORES = {  # Sanh et al., 2019, tables 1 and 2: medians of five runs, GLUE dev
    "BERT-base": {
        "cola": 56.3, "mnli": 84.7, "mrpc": 88.6, "qnli": 91.8, "qqp": 89.6, "rte": 69.3, "sst2": 92.7, "stsb": 89.0,
        "wnli": 53.5, "imdb": 93.46, "squad": 88.5,
    },
    "DistilBERT": {
        "cola": 51.3, "mnli": 82.1, "mrpc": 87.5, "qnli": 89.2, "qqp": 88.5, "rte": 59.9, "sst2": 91.3, "stsb": 86.9,
        "wnli": 56.3, "imdb": 92.82, "squad": 85.8,
    },
}  # fmt: skip
CLAIMED_PERCENT = 97.0  # a student's note claims this only if the lower bound of its interval reaches it


def show_finetuning_results(results: Sequence[Mapping[str, Any]]) -> None:
    """Prints the mean and standard deviation over seeds for each task.

    Args:
        results: the contents of the seedN.json files, for any number of tasks and seeds.
    """
    table = Table("task", "metric", "score", "seeds", "best epochs")
    for task in dict.fromkeys(result["task"] for result in results):
        seed_results = [result for result in results if result["task"] == task]
        table.add_row(
            task,
            seed_results[0]["main_metric"],
            format_mean_and_std([result["main_score"] for result in seed_results]),
            str(len(seed_results)),
            ", ".join(str(result["best_epoch"]) for result in seed_results),
        )
    console.print(table)


def write_retention(
    folders: Mapping[str, pathlib.Path], output_dir: pathlib.Path, *, tasks: Sequence[str] | None = None
) -> Retention:
    """Compares fine-tuned models, prints the table, and writes retention.md, .tex, .json and .png.

    Args:
        folders: {model: folder that `finetune` wrote}; the teacher comes first.
        output_dir: the folder for the four files.
        tasks: the names of the tasks to compare; None compares all, which have to be the same for all models.

    Raises:
        ValueError: results are missing or damaged, the models were not fine-tuned alike, or nothing can be written to
            `output_dir`.
    """
    folders = {name: files.expand_path(folder) for name, folder in folders.items()}
    output_dir = files.expand_path(output_dir)
    files.check_can_write(output_dir, *(f"retention.{suffix}" for suffix in ("md", "tex", "json", "png")))
    models = {name: str(folder) for name, folder in folders.items()}
    _check_same_comparison(output_dir, models)
    results = {name: load_results(folder, tasks) for name, folder in folders.items()}
    retention = dataclasses.replace(compute_retention(results), milliseconds=_measure_latencies(results, folders))
    write_marker(output_dir, "retention", made_from={"models": models})
    text = format_markdown(retention)
    for suffix, content in (("md", text), ("tex", format_latex(retention))):
        with files.write_atomically(output_dir / f"retention.{suffix}") as partial:
            partial.write_text(content, encoding="utf-8")
    files.write_json(output_dir / "retention.json", to_json(retention))
    draw_retention(retention, output_dir / "retention.png")
    console.print(text, markup=False)
    console.print(f"written to {output_dir}/retention.md, .tex, .json and .png", markup=False)
    return retention


def _check_same_comparison(output_dir: pathlib.Path, models: Mapping[str, str]) -> None:
    """Raises ValueError if a folder has files of the user, or the comparison of other models."""
    check_owner(output_dir, "retention", setting="--output-dir FOLDER")
    marker = read_marker(output_dir)
    if marker is not None and marker["made_from"] != {"models": models}:
        compared = ", ".join(f"{name}={folder}" for name, folder in marker["made_from"].get("models", {}).items())
        raise ValueError(
            f"{output_dir} holds the comparison of {compared}; name another folder with --output-dir FOLDER"
        )


def make_table_rows(retention: Retention) -> list[list[str]]:
    """Returns the cells of the table: a header, then one row for each model, ratio, baseline and published model.

    A cell of a model and a task has mean ± standard deviation over seeds.
    """
    students = tuple(retention.ratios)
    teacher = next(iter(retention.results.values()))
    rows = [
        [
            "model",
            "parameters",
            f"latency, 1 text of 128 tokens, {jax.default_backend()}",
            *(f"{task} ({format_main_metric(results.task_type)})" for task, results in teacher.items()),
            "macro average",
            "macro retained",
            "retained above the majority baseline",
        ]
    ]
    for name, model_results in retention.results.items():
        means = [statistics.mean(results.main_scores) for results in model_results.values()]
        rows.append(
            [
                name,
                f"{max(results.parameters for results in model_results.values()):,}",
                f"{retention.milliseconds[name]:.1f} ms" if name in retention.milliseconds else "",
                *(format_mean_and_std(model_results[task].main_scores) for task in retention.tasks),
                f"{statistics.mean(means):.2f}",
                str(retention.ratios[name]["macro"]) if name in students else "",
                str(retention.ratios_above_baseline[name]) if name in students else "",
            ]
        )
    for name in students:
        rows.append(
            [f"{name}: retained", "", "", *(str(retention.ratios[name][task]) for task in retention.tasks), "", "", ""]
        )
    baselines = [f"{retention.majority_baseline[task]:.2f}" for task in retention.tasks]
    mean_baseline = f"{statistics.mean(retention.majority_baseline.values()):.2f}"
    rows.append(["majority baseline", "", "", *baselines, mean_baseline, "", ""])
    for name, scores in PAPER_SCORES.items():
        if any(task in scores for task in retention.tasks):
            published = [f"{scores[task]}" if task in scores else "" for task in retention.tasks]
            rows.append([f"paper: {name}", "", "", *published, "", "", ""])
    return rows


def make_notes(retention: Retention) -> list[str]:
    """Returns the paragraphs below the table: what the numbers are, the settings, and what may be claimed."""
    first = next(iter(retention.results.values()))
    seeds = sorted(
        {len(results.main_scores) for model_results in retention.results.values() for results in model_results.values()}
    )
    budgets = "; ".join(
        f"{task}: {results.examples['train']['examples']:,} training examples, {_format_budget(retention.budget[task])}"
        for task, results in first.items()
    )
    notes = [
        f"Scores are those of the {_format_split(first)} after the epoch that is best on dev: mean ± standard "
        f"deviation over {' or '.join(map(str, seeds))} seeds, never the best seed. "
        "Retained is the score in per cent of the teacher's score, with a 95 % interval (paired bootstrap over seeds "
        "and examples).",
        f"Each task has one setting, the same for every model, without a search. {budgets}.",
    ]
    for name, ratios in retention.ratios.items():
        if ratios["macro"].low >= CLAIMED_PERCENT:
            notes.append(f"{name} retains ≥ {CLAIMED_PERCENT:.0f} %: the lower bound is {ratios['macro'].low:.1f} %.")
    if any(row[0].startswith("paper: ") for row in make_table_rows(retention)):
        notes.append(
            "Rows marked paper are those of Sanh et al. (2019). Their models and data are different, so they are for "
            "reference only."
        )
    return notes


def format_markdown(retention: Retention) -> str:
    """Returns the table and its notes as Markdown."""
    header, *rows = make_table_rows(retention)
    lines = [header, ["---"] * len(header), *rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return table + "\n\n" + "\n\n".join(make_notes(retention)) + "\n"


def format_latex(retention: Retention) -> str:
    r"""Returns the table as a tabular for \usepackage{booktabs}, with its notes as comments."""

    def escape(text: str) -> str:
        return text.replace("%", r"\%").replace("_", r"\_").replace("±", r"$\pm$").replace("≥", r"$\geq$")

    header, *rows = [[escape(cell) for cell in row] for row in make_table_rows(retention)]
    body = " \\\\\n".join(" & ".join(row) for row in rows)
    notes = "".join(f"% {escape(note)}\n" for note in make_notes(retention))
    return (
        f"\\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}\n\\toprule\n{' & '.join(header)} \\\\\n\\midrule\n"
        f"{body} \\\\\n\\bottomrule\n\\end{{tabular}}\n{notes}"
    )


def to_json(retention: Retention) -> dict[str, Any]:
    """Returns the content of retention.json."""
    return {
        "scores": {
            name: {task: list(results.main_scores) for task, results in model_results.items()}
            for name, model_results in retention.results.items()
        },
        "kept": {
            name: {task: dataclasses.asdict(ratio) for task, ratio in ratios.items()}
            for name, ratios in retention.ratios.items()
        },
        "kept_above_commonest_answer": {
            name: dataclasses.asdict(ratio) for name, ratio in retention.ratios_above_baseline.items()
        },
        "commonest_answer": dict(retention.majority_baseline),
        "milliseconds": dict(retention.milliseconds),
        "budget": {task: dict(settings) for task, settings in retention.budget.items()},
    }


def draw_retention(retention: Retention, path: pathlib.Path) -> None:
    """Draws the ratio of each student on each task with its interval, as a PNG file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    names = [*retention.tasks, "macro"]
    for number, (student, ratios) in enumerate(retention.ratios.items()):
        # Students are shifted sideways so that their intervals do not overlap.
        x = [i + 0.15 * (number - (len(retention.ratios) - 1) / 2) for i in range(len(names))]
        percent = [ratios[name].percent for name in names]
        below = [max(0.0, ratios[name].percent - ratios[name].low) for name in names]
        above = [max(0.0, ratios[name].high - ratios[name].percent) for name in names]
        axes.errorbar(x, percent, yerr=[below, above], fmt="o", capsize=3, label=student)
    axes.axhline(100, color="0.5", linewidth=1)
    axes.set(xticks=range(len(names)), xticklabels=names, ylabel="per cent of the teacher's score")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3, axis="y")
    with files.write_atomically(path) as partial:
        figure.savefig(partial, dpi=120, format="png")
    pyplot.close(figure)


def _format_split(results: Mapping[str, ModelTaskResults]) -> str:
    """Returns which split gives the scores, and the tasks whose scores are those of another one."""
    tested = [task for task, task_results in results.items() if "test" in task_results.per_example[0]]
    return f"dev split (of the test split for {' and '.join(tested)})" if tested else "dev split"


def _measure_latencies(
    results: Mapping[str, Mapping[str, ModelTaskResults]], folders: Mapping[str, pathlib.Path]
) -> dict[str, float]:
    """Measures the latency of one text, in milliseconds, with the model of the first task and seed.

    The models take turns, so that a change in the load of the machine affects all of them. Models whose weights are no
    longer in their folder are left out.
    """
    task, task_results = next(iter(next(iter(results.values())).items()))
    model_folders = {name: folder / task / "seed0" / "model" for name, folder in folders.items()}
    models = {
        name: load_pretrained(Pretrained(str(folder)), head=task_results.task_type.head)
        for name, folder in model_folders.items()
        if folder.is_dir()
    }
    return dict(
        zip(models, measure_latencies([make_single_text_call(model) for model in models.values()]), strict=True)
    )


def _format_budget(settings: Mapping[str, Any]) -> str:
    """Returns the settings that the notes state, such as "epochs 3, batch_size 32"."""
    return ", ".join(f"{path.split('.')[-1]} {settings[path]}" for path in BUDGET_FIELDS)
