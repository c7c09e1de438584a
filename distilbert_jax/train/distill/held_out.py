"""Masked words of held-out rows, asked of student and teacher alike: the same rows, the same masks, whatever the
run.
"""

import math
from typing import Any

import jax

from distilbert_jax import log_keys
from distilbert_jax.io.console import progress_bar
from distilbert_jax.train.distill.setup import DistillSetup

MIN_MASKED_TOKENS = 10_000
"""Fewer give a standard error of more than half a point, which the screen says."""


def evaluate_held_out(run: DistillSetup, params: Any) -> dict[str, float]:
    """Computes means over the masked tokens, with the standard errors of fractions and the perplexities of cross
    entropies.

    The masks are uniform over real tokens, 15 % of each row, 80 / 10 / 10, from a fixed seed.
    """
    sums: dict[str, float] = {}
    with progress_bar("measuring held-out rows", total=run.held_out_rows, stays=False) as advance:
        done = 0
        for batch in run.held_out():
            for name, value in jax.device_get(run.eval_step(params, run.teachers, run.place(batch))).items():
                sums[name] = sums.get(name, 0.0) + float(value)
            done += batch["row_ids"].size * jax.process_count()
            advance(min(done, run.held_out_rows))
    count = sums.pop(log_keys.MASKED_TOKENS.name)
    means = {name: value / count for name, value in sums.items()}
    stderrs = {
        stderr.name: math.sqrt(means[key.name] * (1 - means[key.name]) / count)
        for key, stderr in log_keys.STDERR.items()
        if key.name in means
    }
    perplexities = {
        perplexity.name: math.exp(means[key.name])
        for key, perplexity in log_keys.PERPLEXITIES.items()
        if key.name in means
    }
    counts = {log_keys.MASKED_TOKENS.name: count, log_keys.ROWS.name: float(run.held_out_rows)}
    return {**counts, **means, **stderrs, **perplexities}


def format_measurements(measured: dict[str, float]) -> str:
    """One line for the screen."""
    accuracy, stderr = measured[log_keys.ACCURACY.name], measured[log_keys.ACCURACY_STDERR.name]
    line = f"accuracy {accuracy:.2%} ± {stderr:.2%}, perplexity {measured[log_keys.PERPLEXITY.name]:.1f}"
    if log_keys.TEACHER_ACCURACY.name in measured:
        line += f" (teacher {measured[log_keys.TEACHER_ACCURACY.name]:.2%}"
        line += f", {measured[log_keys.TEACHER_PERPLEXITY.name]:.1f}"
        line += f"; top-1 agreement {measured[log_keys.TEACHER_AGREEMENT.name]:.2%})"
    count = measured[log_keys.MASKED_TOKENS.name]
    few = f"; only {count:,.0f} masked tokens were predicted: hold out more" if count < MIN_MASKED_TOKENS else ""
    return line + few
