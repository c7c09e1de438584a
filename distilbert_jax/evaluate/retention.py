"""What a student keeps of its teacher: results of fine-tuning, side by side."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from distilbert_jax.progress import console


def show_runs(results: Sequence[Mapping[str, Any]]) -> None:
    """Mean and standard deviation over the seeds of each task, as fine-tuning gave them."""
    table = Table("task", "score", "seeds", "best epochs")
    for task in dict.fromkeys(result["task"] for result in results):
        of_task = [result for result in results if result["task"] == task]
        table.add_row(
            task,
            mean_and_deviation([result["headline"] for result in of_task]),
            str(len(of_task)),
            ", ".join(str(result["best_epoch"]) for result in of_task),
        )
    console.print(table)


def mean_and_deviation(values: Sequence[float]) -> str:
    """Two decimals; no deviation of a single value."""
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"
