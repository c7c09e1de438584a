"""Masked words of held-out rows, asked of student and teacher alike: the same rows, the same masks, whatever the
run.
"""

import math
from typing import Any

import jax

from distilbert_jax.io.console import bar
from distilbert_jax.train.distill.setup import DistillSetup

FEWEST = 10_000  # words, for a standard error of half a point
SHARES = ("accuracy", "teacher_accuracy", "agreement")


def measure(run: DistillSetup, params: Any) -> dict[str, float]:
    """Means over the masked words; shares come with their standard error, cross entropies as perplexity too.

    The masks are uniform over real tokens, 15 % of each row, 80 / 10 / 10, from a fixed seed.
    """
    sums: dict[str, float] = {}
    with bar("measuring held-out rows", total=run.held_out_rows, stays=False) as advance:
        done = 0
        for batch in run.held_out():
            for name, value in jax.device_get(run.eval_step(params, run.teachers, run.place(batch))).items():
                sums[name] = sums.get(name, 0.0) + float(value)
            done += batch["rows"].size * jax.process_count()
            advance(min(done, run.held_out_rows))
    words = sums.pop("words")
    means = {name: value / words for name, value in sums.items()}
    errors = {f"{name}_error": math.sqrt(means[name] * (1 - means[name]) / words) for name in SHARES if name in means}
    perplexities = {
        name.replace("cross_entropy", "perplexity"): math.exp(mean)
        for name, mean in means.items()
        if name.endswith("cross_entropy")
    }
    return {"words": words, "rows": float(run.held_out_rows), **means, **errors, **perplexities}


def in_words(measured: dict[str, float]) -> str:
    """One line for the screen."""
    share = lambda name: f"{measured[name]:.2%} ± {measured[name + '_error']:.2%}"
    line = f"accuracy {share('accuracy')}, perplexity {measured['perplexity']:.1f}"
    if "teacher_accuracy" in measured:
        line += f" (teacher {measured['teacher_accuracy']:.2%}, {measured['teacher_perplexity']:.1f}"
        line += f"; agreement {measured['agreement']:.2%})"
    few = f"; only {measured['words']:,.0f} words were asked: hold out more" if measured["words"] < FEWEST else ""
    return line + few
