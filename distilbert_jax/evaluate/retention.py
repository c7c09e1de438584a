"""What a student keeps of its teacher: fine-tuning's results side by side, with how sure one can be.

Per cent kept comes with a 95 % interval by a paired bootstrap (Efron and Tibshirani, 1993): examples are drawn anew,
the same ones for teacher and student, and seeds for each of them. A best of seeds never appears.
"""

import dataclasses
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from distilbert_jax.config.experiment_file import differences, is_within
from distilbert_jax.config.finetune import BUDGET_FIELDS, MODEL_FIELDS
from distilbert_jax.data.tasks import metrics
from distilbert_jax.data.tasks.registry import make_task_type
from distilbert_jax.data.tasks.task_types.base import TaskType
from distilbert_jax.data.tasks.task_types.span_extraction import SpanExtraction
from distilbert_jax.data.tasks.task_types.tagging import Tagging
from distilbert_jax.io import untrusted
from distilbert_jax.train.finetune.results import PER_EXAMPLE_FILE, read_result

DRAWS = 1_000
MAX_PER_EXAMPLE_BYTES = 2**28


class StatedTaskType(TypedDict):
    """The part of a result that says of what type its task is."""

    head: str
    labels: list[str]
    problem_type: str | None
    metrics: list[str]


class Result(TypedDict):
    """What of a seedN.json is read."""

    task: str
    main_score: float
    task_type: StatedTaskType
    config: dict[str, Any]
    parameters: int
    dev_examples: dict[str, int]
    train_examples: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Results:
    """One model on one task: for each seed its main score, and by dev split the numbers of every example."""

    main_scores: tuple[float, ...]
    per_example: tuple[Mapping[str, np.ndarray], ...]
    form: TaskType
    config: Mapping[str, Any]
    parameters: int
    sizes: Mapping[str, int]  # examples by split


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetentionRatio:
    """Per cent of the teacher's score, and the 95 % interval."""

    percent: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.percent:.1f} % ({self.low:.1f}–{self.high:.1f})"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retention:
    """`results[model][task]`; the first model is the teacher. `floor[task]` is the score of always giving the commonest
    answer.
    """

    results: Mapping[str, Mapping[str, Results]]
    majority_baseline: Mapping[str, float]
    kept: Mapping[str, Mapping[str, RetentionRatio]]  # [student][task, or "macro"]
    kept_above_floor: Mapping[str, RetentionRatio]  # [student], of the macro averages
    budget: Mapping[str, Mapping[str, Any]]  # [task]: the settings that are the same for all models
    milliseconds: Mapping[str, float] = dataclasses.field(default_factory=dict)  # of one text, by model

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.majority_baseline)


def load_results(folder: pathlib.Path, tasks: Sequence[str] | None = None) -> dict[str, Results]:
    """The results under a folder that `finetune` wrote to, by task: all, or those that are named. ValueError where
    there are none.
    """
    found = {}
    there = {path.parent for path in folder.glob("*/seed*.json") if tasks is None or path.parent.name in tasks}
    missing = sorted(set(tasks or ()) - {path.name for path in there})
    if missing or not there:
        raise ValueError(
            f"{folder}: no results of {', '.join(missing) or 'any task'}: "
            f"python -m distilbert_jax finetune MODEL --task … --output-dir {folder}"
        )
    for task in sorted(there):
        paths = sorted(task.glob("seed*.json"))
        results = [read_result(path, Result) for path in paths]
        first = results[0]
        form = _form(first, paths[0], task.name)
        found[first["task"]] = Results(
            main_scores=tuple(result["main_score"] for result in results),
            per_example=tuple(_per_example(path.with_suffix("") / PER_EXAMPLE_FILE, form) for path in paths),
            form=form,
            config=first["config"],
            parameters=first["parameters"],
            sizes=first["dev_examples"] | {"train": first["train_examples"]},
        )
    return found


def _form(result: Result, path: pathlib.Path, task: str) -> TaskType:
    """ValueError where the result is of another task than its folder, or cannot be scored."""
    if result["task"] != task:
        raise ValueError(f"{path}: a result of {result['task']!r}, in the folder of {task}")
    if missing := [name for name in BUDGET_FIELDS if name not in result["config"]]:
        raise ValueError(f"{path}: its config does not state {missing[0]}")
    stated = result["task_type"]
    if unknown := set(stated["metrics"]) - set(metrics.METRIC_NAMES):
        raise ValueError(f"{path}: no metric {sorted(unknown)[0]!r}: only {', '.join(metrics.METRIC_NAMES)}")
    try:
        return make_task_type(
            stated["head"],
            labels=stated["labels"],
            problem_type=stated["problem_type"],
            metric_names=stated["metrics"],
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _per_example(path: pathlib.Path, form: TaskType) -> dict[str, np.ndarray]:
    """What a seed answered, by dev split. ValueError where it cannot be scored."""
    found = untrusted.read_json(path, dict[str, list[list[float]]], max_bytes=MAX_PER_EXAMPLE_BYTES)
    if not found or not all(found.values()):
        raise ValueError(f"{path}: no answers")
    per_example = {}
    for split, rows in found.items():
        try:
            per_example[split] = np.array(rows, float)
            if not (np.abs(per_example[split]) < 2**53).all():
                raise ValueError("a number that is none, or too large")
            form.compute_metrics(per_example[split])
        except (ValueError, TypeError, IndexError, ZeroDivisionError) as error:
            raise ValueError(f"{path}: {split} cannot be scored: {error}") from None
    return per_example


def compute_retention(results: Mapping[str, Mapping[str, Results]], *, seed: int = 0) -> Retention:
    """ValueError where the models were not fine-tuned on the same tasks, examples and budget."""
    teacher, *students = results
    tasks = tuple(results[teacher])
    for student in students:
        if missing := set(tasks) ^ set(results[student]):
            raise ValueError(f"{student} and {teacher} have not the same tasks: {', '.join(sorted(missing))}")
    budget = {task: _budget(task, {name: of_model[task] for name, of_model in results.items()}) for task in tasks}
    floor = {task: _floor(results[teacher][task]) for task in tasks}
    random = np.random.default_rng(seed)
    draws = {task: _draws({name: of[task] for name, of in results.items()}, random) for task in tasks}
    macro = lambda name: np.mean([draws[task][name] for task in tasks], axis=0)
    mean = lambda name: statistics.mean(statistics.mean(results[name][task].main_scores) for task in tasks)
    kept = {
        student: {
            task: _kept(
                statistics.mean(results[student][task].main_scores),
                statistics.mean(results[teacher][task].main_scores),
                draws[task][student],
                draws[task][teacher],
            )
            for task in tasks
        }
        | {"macro": _kept(mean(student), mean(teacher), macro(student), macro(teacher))}
        for student in students
    }
    base = statistics.mean(floor.values())
    above = {
        student: _kept(mean(student) - base, mean(teacher) - base, macro(student) - base, macro(teacher) - base)
        for student in students
    }
    return Retention(results=results, majority_baseline=floor, kept=kept, kept_above_floor=above, budget=budget)


def mean_and_std(values: Sequence[float]) -> str:
    """Two decimals; no deviation of a single value."""
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


def _budget(task: str, of_task: Mapping[str, Results]) -> dict[str, Any]:
    """Returns the settings that all models have in common.

    Raises:
        ValueError: a setting that is not about the model itself differs, or the number of examples does.
    """
    first, *others = of_task
    config = of_task[first].config
    for name in others:
        if different := differences(config, of_task[name].config, except_in=MODEL_FIELDS):
            lines = [f"\n  {path}: {one} ({first}), {other} ({name})" for path, (one, other) in different.items()]
            raise ValueError(f"{task}: {first} and {name} were not fine-tuned alike:{''.join(lines)}")
        if of_task[first].sizes != of_task[name].sizes:
            raise ValueError(f"{task}: {first} and {name} were not fine-tuned on the same examples")
    return {path: value for path, value in config.items() if not is_within(path, MODEL_FIELDS)}


def _main_score(form: TaskType, per_example: Mapping[str, np.ndarray]) -> float:
    return statistics.mean(form.compute_metrics(x)[form.main_metric] for x in per_example.values())


def _floor(results: Results) -> float:
    """Of the commonest answer, given always; 0 where answers are numbers, tags or spans."""
    form = results.form
    if isinstance(form, Tagging | SpanExtraction) or form.problem_type in ("regression", "multi_label_classification"):
        return 0.0
    commonest = {}
    for split, examples in results.per_example[0].items():
        values, counts = np.unique(examples[:, 0], return_counts=True)
        commonest[split] = np.stack([examples[:, 0], np.full(len(examples), values[counts.argmax()])], axis=1)
    return _main_score(form, commonest)


def _draws(of_task: Mapping[str, Results], random: np.random.Generator) -> dict[str, np.ndarray]:
    """[DRAWS] mean main scores of each model, over examples that are the same for all and seeds of its own."""
    drawn: dict[str, list[float]] = {name: [] for name in of_task}
    sizes = {split: len(x) for split, x in next(iter(of_task.values())).per_example[0].items()}
    for _ in range(DRAWS):
        examples = {split: random.integers(0, size, size) for split, size in sizes.items()}
        for name, results in of_task.items():
            num_seeds = len(results.per_example)
            seeds, counts = np.unique(random.integers(0, num_seeds, num_seeds), return_counts=True)
            main_scores = [
                _main_score(results.form, {split: x[examples[split]] for split, x in results.per_example[seed].items()})
                for seed in seeds
            ]
            drawn[name].append(float(np.average(main_scores, weights=counts)))
    return {name: np.array(values) for name, values in drawn.items()}


def _kept(student: float, teacher: float, student_draws: np.ndarray, teacher_draws: np.ndarray) -> RetentionRatio:
    """A teacher's score that is not above 0 leaves nothing to keep: NaN."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(teacher_draws > 0, 100 * student_draws / teacher_draws, np.nan)
    low, high = np.nanpercentile(ratios, [2.5, 97.5]) if np.isfinite(ratios).any() else (np.nan, np.nan)
    return RetentionRatio(
        percent=100 * student / teacher if teacher > 0 else float("nan"), low=float(low), high=float(high)
    )
