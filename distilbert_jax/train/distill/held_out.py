"""Evaluates student and teacher on the masked tokens of held-out rows.

The rows and their masks are the same for every run on a corpus, so that runs can be compared.
"""

import math
from typing import Any

import jax

from distilbert_jax import log_keys
from distilbert_jax.io.console import progress_bar
from distilbert_jax.train.distill.setup import DistillSetup

MIN_MASKED_TOKENS = 10_000
"""With fewer predictions the standard error of an accuracy may exceed half a point, and the printed line says so."""


def evaluate_held_out(setup: DistillSetup, params: Any) -> dict[str, float]:
    """Returns the mean of each metric over the masked tokens, by log key.

    The result also holds the standard errors of fractions, the perplexities of cross entropies, and the numbers of
    masked tokens and rows. 15 % of the tokens of each row are masked uniformly, with a fixed seed: 80 % of them become
    [MASK], 10 % a random token, and 10 % stay.

    Args:
        setup: the run.
        params: the student's parameters.
    """
    sums: dict[str, float] = {}
    with progress_bar("evaluating held-out rows", total=setup.held_out_rows, stays=False) as advance:
        done = 0
        for batch in setup.iter_held_out():
            batch_sums = setup.eval_step(params, setup.teachers, setup.put_batch(batch))
            for name, value in jax.device_get(batch_sums).items():
                sums[name] = sums.get(name, 0.0) + float(value)
            # The last batch is filled up, so the product may exceed the number of rows.
            done += batch["row_ids"].size * jax.process_count()
            advance(min(done, setup.held_out_rows))
    count = sums.pop(log_keys.MASKED_TOKENS.name)
    means = {name: value / count for name, value in sums.items()}
    stderrs = {
        stderr.name: math.sqrt(means[key.name] * (1 - means[key.name]) / count)
        for key, stderr in log_keys.STDERR.items()
        if key.name in means
    }
    perplexities = {
        perplexity.name: compute_perplexity(means[key.name])
        for key, perplexity in log_keys.PERPLEXITIES.items()
        if key.name in means
    }
    counts = {log_keys.MASKED_TOKENS.name: count, log_keys.ROWS.name: float(setup.held_out_rows)}
    return {**counts, **means, **stderrs, **perplexities}


def compute_perplexity(cross_entropy: float) -> float:
    """Returns the exponential of a cross entropy in nats: infinity if it is beyond what a float holds."""
    try:
        return math.exp(cross_entropy)
    except OverflowError:
        return math.inf


def format_measurements(measurements: dict[str, float]) -> str:
    """Returns the result of `evaluate_held_out` as one line for the screen."""
    accuracy, stderr = measurements[log_keys.ACCURACY.name], measurements[log_keys.ACCURACY_STDERR.name]
    perplexity = log_keys.format_perplexity(measurements[log_keys.PERPLEXITY.name])
    line = f"accuracy {accuracy:.2%} ± {stderr:.2%}, perplexity {perplexity}"
    if log_keys.TEACHER_ACCURACY.name in measurements:
        line += f" (teacher: accuracy {measurements[log_keys.TEACHER_ACCURACY.name]:.2%}"
        line += f", perplexity {log_keys.format_perplexity(measurements[log_keys.TEACHER_PERPLEXITY.name])}"
        line += f"; top-1 agreement {measurements[log_keys.TEACHER_AGREEMENT.name]:.2%})"
    count = measurements[log_keys.MASKED_TOKENS.name]
    if count < MIN_MASKED_TOKENS:
        line += f". Only {count:,.0f} masked tokens were predicted; hold out more text for a more exact result"
    return line
