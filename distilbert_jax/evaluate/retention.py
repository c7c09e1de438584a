"""Retention: how much of its teacher's task scores a student keeps, with 95 % intervals.

Scores are means over seeds; the best seed is never selected. The intervals come from a paired bootstrap (Efron and
Tibshirani, 1993): each draw resamples the examples, the same ones for teacher and student, and the seeds of each model.
"""

import dataclasses
import math
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from distilbert_jax.config.experiment_file import differences, is_within
from distilbert_jax.config.finetune import BUDGET_FIELDS, MODEL_FIELDS
from distilbert_jax.data.tasks import metrics
from distilbert_jax.data.tasks.registry import make_task_type
from distilbert_jax.data.tasks.split_hashes import SplitHashes, list_differences
from distilbert_jax.data.tasks.task_types.base import TaskType
from distilbert_jax.data.tasks.task_types.span_extraction import SpanExtraction
from distilbert_jax.data.tasks.task_types.tagging import Tagging
from distilbert_jax.io import untrusted
from distilbert_jax.messages import format_command, format_differences
from distilbert_jax.train.finetune.results import PER_EXAMPLE_FILE, ResultOrigin, check_same_origin, read_result

NUM_DRAWS = 1_000  # of the bootstrap
MAX_PER_EXAMPLE_BYTES = 2**28


class StoredTaskType(TypedDict):
    """The task type in seedN.json."""

    head: str
    labels: list[str]
    problem_type: str | None
    metrics: list[str]


class RetentionSeedResult(ResultOrigin):
    """The parts of seedN.json that this module reads."""

    task: str
    main_score: float
    task_type: StoredTaskType
    parameters: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelTaskResults:
    """The fine-tuning results of one model on one task, for all seeds.

    Attributes:
        main_scores: for each seed its main score in per cent.
        per_example: for each seed {split: [examples, …]}, from which the metrics are computed. The splits are those
            that give the score: test splits if the task is evaluated on them, otherwise dev splits.
        task_type: the type of the task.
        config: the settings, {path: value}.
        parameters: the number of parameters of the model.
        examples: {split: number and hashes of its examples}, including those that the model was trained on.
    """

    main_scores: tuple[float, ...]
    per_example: tuple[Mapping[str, np.ndarray], ...]
    task_type: TaskType
    config: Mapping[str, Any]
    parameters: int
    examples: Mapping[str, SplitHashes]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetentionRatio:
    """A student's score in per cent of its teacher's, with the bounds of the 95 % interval.

    All three are NaN if the teacher's score is not above 0.
    """

    percent: float
    low: float
    high: float

    def __str__(self) -> str:
        """Returns the ratio and its interval with one decimal, or a dash if there is no ratio."""
        if not math.isfinite(self.percent):
            return "–"
        return f"{self.percent:.1f} % ({self.low:.1f}–{self.high:.1f})"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retention:
    """The comparison of a teacher with its students.

    Attributes:
        results: {model: {task: results}}; the first model is the teacher.
        majority_baseline: {task: main score of always predicting the most frequent label}, in per cent.
        ratios: {student: {task, or "macro": ratio}}.
        ratios_above_baseline: {student: ratio of the macro averages after subtracting the mean baseline from both}.
        budget: {task: settings that are the same for all models}.
        milliseconds: {model: latency of one text}, for models whose weights are available.
    """

    results: Mapping[str, Mapping[str, ModelTaskResults]]
    majority_baseline: Mapping[str, float]
    ratios: Mapping[str, Mapping[str, RetentionRatio]]
    ratios_above_baseline: Mapping[str, RetentionRatio]
    budget: Mapping[str, Mapping[str, Any]]
    milliseconds: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the tasks."""
        return tuple(self.majority_baseline)


def load_results(folder: pathlib.Path, tasks: Sequence[str] | None = None) -> dict[str, ModelTaskResults]:
    """Reads the results that `finetune` wrote to a folder.

    Args:
        folder: the output folder of `finetune`.
        tasks: the names of the tasks to read; None reads all.

    Returns:
        {task: results}.

    Raises:
        ValueError: there are no results of a task, or a file is damaged or from another version of the package.
    """
    results_by_task = {}
    task_folders = {path.parent for path in folder.glob("*/seed*.json") if tasks is None or path.parent.name in tasks}
    missing = sorted(set(tasks or ()) - {path.name for path in task_folders})
    if missing or not task_folders:
        raise ValueError(
            f"{folder} has no results of {', '.join(missing) or 'any task'}; fine-tune first:\n"
            f"  {format_command('finetune', 'MODEL', '--task', 'TASK=FOLDER', '--output-dir', folder)}"
        )
    for task_folder in sorted(task_folders):
        paths = sorted(task_folder.glob("seed*.json"))
        results = [read_result(path, RetentionSeedResult) for path in paths]
        first = results[0]
        for path, result in zip(paths[1:], results[1:], strict=True):
            check_same_origin(path, result, first)
        task_type = _load_task_type(first, paths[0], task_folder.name)
        results_by_task[first["task"]] = ModelTaskResults(
            main_scores=tuple(result["main_score"] for result in results),
            per_example=tuple(
                _load_per_example(path.with_suffix("") / PER_EXAMPLE_FILE, task_type, first["examples"])
                for path in paths
            ),
            task_type=task_type,
            config=first["config"],
            parameters=first["parameters"],
            examples=first["examples"],
        )
    return results_by_task


def _load_task_type(result: RetentionSeedResult, path: pathlib.Path, task: str) -> TaskType:
    """Returns the task type of a result. Raises ValueError if the result is damaged or belongs to another task."""
    if result["task"] != task:
        raise ValueError(f"{path} is a result of {result['task']!r}, but it is in the folder of {task}; move it")
    if missing := [name for name in BUDGET_FIELDS if name not in result["config"]]:
        raise ValueError(f"{path}: its config does not state {missing[0]}; fine-tune again")
    stored = result["task_type"]
    if unknown := set(stored["metrics"]) - set(metrics.METRIC_NAMES):
        raise ValueError(
            f"{path}: unknown metric {sorted(unknown)[0]!r}; the metrics are {', '.join(metrics.METRIC_NAMES)}"
        )
    try:
        return make_task_type(
            stored["head"],
            labels=stored["labels"],
            problem_type=stored["problem_type"],
            metric_names=stored["metrics"],
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _load_per_example(
    path: pathlib.Path, task_type: TaskType, examples: Mapping[str, SplitHashes]
) -> dict[str, np.ndarray]:
    """Returns one seed's {split: [examples, …]}. Raises ValueError if it is not about `examples`, or has no metrics."""
    content = untrusted.read_json(path, dict[str, list[list[float]]], max_bytes=MAX_PER_EXAMPLE_BYTES)
    if not content or not all(content.values()):
        raise ValueError(f"{path} has no examples; fine-tune again")
    per_example = {}
    for split, rows in content.items():
        if split not in examples or examples[split]["examples"] != len(rows):
            raise ValueError(
                f"{path}: {split} has {len(rows):,} examples, but its result states others; fine-tune again"
            )
        try:
            per_example[split] = np.array(rows, float)
            if not (np.abs(per_example[split]) < 2**53).all():
                raise ValueError("a number is NaN, infinite or too large")
            task_type.compute_metrics(per_example[split])
        except (ValueError, TypeError, IndexError, ZeroDivisionError) as error:
            raise ValueError(f"{path}: the metrics of {split} cannot be computed: {error}") from None
    return per_example


def compute_retention(results: Mapping[str, Mapping[str, ModelTaskResults]], *, seed: int = 0) -> Retention:
    """Computes how much of the teacher's scores each student keeps.

    Args:
        results: {model: {task: results}}; the first model is the teacher.
        seed: seed of the bootstrap.

    Raises:
        ValueError: the models were not fine-tuned on the same tasks and examples with the same budget.
    """
    teacher, *students = results
    tasks = tuple(results[teacher])
    for student in students:
        if missing := set(tasks) ^ set(results[student]):
            raise ValueError(
                f"{student} and {teacher} do not have the same tasks; only one of them has "
                f"{', '.join(sorted(missing))}: choose the tasks to compare with --task"
            )
    by_task = {task: {name: model_results[task] for name, model_results in results.items()} for task in tasks}
    budget = {task: _check_budget(task, by_task[task]) for task in tasks}
    baseline = {task: _compute_majority_baseline(results[teacher][task]) for task in tasks}
    random = np.random.default_rng(seed)
    draws = {task: _bootstrap(by_task[task], random) for task in tasks}

    def macro_mean(name: str) -> float:
        """Returns the mean over tasks of the mean over seeds."""
        return statistics.mean(statistics.mean(results[name][task].main_scores) for task in tasks)

    def macro_draws(name: str) -> np.ndarray:
        """Returns the mean over tasks in each draw."""
        return np.mean([draws[task][name] for task in tasks], axis=0)

    ratios = {
        student: {
            task: _compute_ratio(
                statistics.mean(results[student][task].main_scores),
                statistics.mean(results[teacher][task].main_scores),
                draws[task][student],
                draws[task][teacher],
            )
            for task in tasks
        }
        | {
            "macro": _compute_ratio(
                macro_mean(student), macro_mean(teacher), macro_draws(student), macro_draws(teacher)
            )
        }
        for student in students
    }
    base = statistics.mean(baseline.values())
    ratios_above_baseline = {
        student: _compute_ratio(
            macro_mean(student) - base,
            macro_mean(teacher) - base,
            macro_draws(student) - base,
            macro_draws(teacher) - base,
        )
        for student in students
    }
    return Retention(
        results=results,
        majority_baseline=baseline,
        ratios=ratios,
        ratios_above_baseline=ratios_above_baseline,
        budget=budget,
    )


def format_mean_and_std(values: Sequence[float]) -> str:
    """Returns mean ± standard deviation with two decimals; a single value has no deviation."""
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{deviation}"


def _check_budget(task: str, results: Mapping[str, ModelTaskResults]) -> dict[str, Any]:
    """Returns the settings that all models have in common.

    Args:
        task: the name of the task.
        results: {model: its results on this task}.

    Raises:
        ValueError: a setting that is not about the model itself differs, or the examples do. Only the labels of the
            training examples may be missing in one of them, because a teacher can replace them.
    """
    first, *others = results
    config = results[first].config
    for name in others:
        if different := differences(config, results[name].config, except_in=MODEL_FIELDS):
            raise ValueError(
                f"{task}: {first} and {name} were fine-tuned with different settings; fine-tune one of them again:\n"
                f"{format_differences(different, one=f'({first})', other=f'({name})')}"
            )
        lines = list_differences(results[first].examples, results[name].examples, unlabelled_train=True)
        if lines:
            listed = "".join(f"\n  {line}" for line in lines)
            raise ValueError(
                f"{task}: {first} and {name} were not fine-tuned on the same examples; fine-tune one of them again, "
                f"with the same files:{listed}"
            )
    return {path: value for path, value in config.items() if not is_within(path, MODEL_FIELDS)}


def _compute_main_score(task_type: TaskType, per_example: Mapping[str, np.ndarray]) -> float:
    """Returns the mean of the main metric over the dev splits."""
    return statistics.mean(task_type.compute_metrics(x)[task_type.main_metric] for x in per_example.values())


def _compute_majority_baseline(results: ModelTaskResults) -> float:
    """Returns the main score of always predicting the most frequent label.

    It is 0 for numbers, tags, spans and several classes at once.
    """
    task_type = results.task_type
    has_single_label = task_type.problem_type not in ("regression", "multi_label_classification")
    if isinstance(task_type, Tagging | SpanExtraction) or not has_single_label:
        return 0.0
    per_example = {}
    for split, examples in results.per_example[0].items():
        values, counts = np.unique(examples[:, 0], return_counts=True)
        per_example[split] = np.stack([examples[:, 0], np.full(len(examples), values[counts.argmax()])], axis=1)
    return _compute_main_score(task_type, per_example)


def _bootstrap(results: Mapping[str, ModelTaskResults], random: np.random.Generator) -> dict[str, np.ndarray]:
    """Resamples examples and seeds.

    Args:
        results: {model: its results on one task}.
        random: the random generator; it advances.

    Returns:
        {model: its mean main score in each draw, [NUM_DRAWS]}. A draw takes the same examples for all models, and seeds
        for each model separately.
    """
    draws: dict[str, list[float]] = {name: [] for name in results}
    sizes = {split: len(x) for split, x in next(iter(results.values())).per_example[0].items()}
    for _ in range(NUM_DRAWS):
        examples = {split: random.integers(0, size, size) for split, size in sizes.items()}
        for name, model_results in results.items():
            num_seeds = len(model_results.per_example)
            # A seed that is drawn twice has the same score twice, so each is computed once and weighted.
            seeds, counts = np.unique(random.integers(0, num_seeds, num_seeds), return_counts=True)
            main_scores = [
                _compute_main_score(
                    model_results.task_type,
                    {split: x[examples[split]] for split, x in model_results.per_example[seed].items()},
                )
                for seed in seeds
            ]
            draws[name].append(float(np.average(main_scores, weights=counts)))
    return {name: np.array(values) for name, values in draws.items()}


def _compute_ratio(
    student: float, teacher: float, student_draws: np.ndarray, teacher_draws: np.ndarray
) -> RetentionRatio:
    """Returns the ratio of two scores and its interval. If the teacher's score is not above 0, all are NaN."""
    if teacher <= 0:
        return RetentionRatio(percent=math.nan, low=math.nan, high=math.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(teacher_draws > 0, 100 * student_draws / teacher_draws, np.nan)
    low, high = np.nanpercentile(ratios, [2.5, 97.5]) if np.isfinite(ratios).any() else (np.nan, np.nan)
    return RetentionRatio(percent=100 * student / teacher, low=float(low), high=float(high))
