"""Soft and hard targets over the vocabulary, value and gradient: block by block, and with both [tokens × words]
matrices in memory.

Every token is asked, as in the paper. Memory is what the compiled program says it needs beside its inputs and outputs.
"""

import functools
import statistics
from collections.abc import Iterator
from typing import Any

from turns import Side, Table, Turn, seconds, spread, take_turns

HIDDEN, VOCABULARY, LARGE = 768, 30_522, (32, 512)


def program(blockwise: bool, rows: int, tokens: int, dtype: str) -> tuple[Any, Any]:
    """(value and gradient by the student's factors, the shapes of its arguments)."""
    import jax
    import jax.numpy as jnp

    from distilbert_jax.losses import blockwise_logits
    from distilbert_jax.losses.hard_targets import HardTargets
    from distilbert_jax.losses.soft_targets import SoftTargets
    from distilbert_jax.types import FactoredLogits

    soft, hard = SoftTargets(), HardTargets()
    answers: dict[str, blockwise_logits.LogitFunction] = {
        "soft": lambda student_logits, teacher_logits, labels: soft.values_from_logits(
            student_logits, teacher_logits["teacher"], labels
        ),
        "hard": lambda student_logits, teacher_logits, labels: hard.values_from_logits(student_logits, None, labels),
    }

    def dense(student: FactoredLogits, teacher: FactoredLogits, labels: Any, weights: Any) -> Any:
        student_logits, teacher_logits = student.to_dense(), {"teacher": teacher.to_dense()}
        mean = {
            name: jnp.sum(weights * answer(student_logits, teacher_logits, labels)) for name, answer in answers.items()
        }
        return 5 * mean["soft"] + 2 * mean["hard"]

    def by_blocks(student: FactoredLogits, teacher: FactoredLogits, labels: Any, weights: Any) -> Any:
        both = dict.fromkeys(answers, weights)
        return blockwise_logits.blockwise_total(
            answers, {"soft": 5.0, "hard": 2.0}, student, {"teacher": teacher}, labels, both
        )[0]

    def shape(*sizes, dtype=dtype):
        return jax.ShapeDtypeStruct(sizes, dtype)

    factors = FactoredLogits(
        features=shape(rows, tokens, HIDDEN),
        embedding=shape(VOCABULARY, HIDDEN),
        bias=shape(VOCABULARY, dtype=jnp.float32),
    )
    labels, weights = shape(rows, tokens, dtype=jnp.int32), shape(rows, tokens, dtype=jnp.float32)
    return jax.jit(jax.value_and_grad(by_blocks if blockwise else dense)), (factors, factors, labels, weights)


def side(*, blockwise: bool, rows: int, tokens: int, dtype: str) -> Turn:
    """One value and gradient."""
    import jax
    import jax.numpy as jnp

    run, shapes = program(blockwise, rows, tokens, dtype)

    def random(x):
        return (
            jax.random.randint(jax.random.key(0), x.shape, 0, VOCABULARY)
            if jnp.issubdtype(x.dtype, jnp.integer)
            else 0.05 * jax.random.normal(jax.random.key(x.size), x.shape, x.dtype)
        )

    arguments = jax.tree.map(random, shapes)
    large, large_shapes = program(blockwise, *LARGE, dtype)
    temporaries = large.lower(*large_shapes).compile().memory_analysis().temp_size_in_bytes

    def work():
        return jax.block_until_ready(run(*arguments))

    return lambda: {"seconds": seconds(work), "temporaries": temporaries}


SIDES = {
    "block by block": functools.partial(side, blockwise=True),
    "dense": functools.partial(side, blockwise=False),
}


def tables(rows: int = 4, tokens: int = 128, repeats: int = 9) -> Iterator[Table]:
    """One for each type."""
    for dtype in ("float32", "bfloat16"):
        settings = {"rows": rows, "tokens": tokens, "dtype": dtype}
        got = take_turns({name: Side(module="vocabulary", name=name, settings=settings) for name in SIDES}, repeats)
        middle = {name: statistics.median(figures["seconds"]) for name, figures in got.items()}
        dense = got["dense"]["temporaries"][0]
        yield Table(
            title=f"Vocabulary losses, {rows} × {tokens} tokens, {dtype}; temporaries of {LARGE[0]} × {LARGE[1]}",
            header=("side", "seconds (quartiles)", "of dense", "temporaries, GB", "of dense"),
            rows=[
                (
                    name,
                    spread(figures["seconds"]),
                    f"{middle[name] / middle['dense']:.2f} ×",
                    f"{figures['temporaries'][0] / 1e9:.2f}",
                    f"{figures['temporaries'][0] / dense:.1%}",
                )
                for name, figures in got.items()
            ],
            faster={f"dense losses, {dtype}": middle["dense"] / middle["block by block"]},
        )
