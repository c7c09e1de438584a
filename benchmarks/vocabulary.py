"""Measures soft and hard targets over the vocabulary, value and gradient: in blocks, or with dense logits.

Dense logits keep two matrices [tokens, vocabulary] in memory. Predictions are made at all tokens, as in the paper. The
memory is what the compiled program states in addition to its inputs and outputs.
"""

import functools
import statistics
from collections.abc import Iterator
from typing import Any

from turns import Side, Table, Turn, seconds, spread, take_turns

HIDDEN_SIZE, VOCAB_SIZE, LARGE_SHAPE = 768, 30_522, (32, 512)


def program(blockwise: bool, rows: int, tokens: int, dtype: str) -> tuple[Any, Any]:
    """Returns a jitted function for the value and its gradient by the student's factors, and its argument shapes."""
    import jax
    import jax.numpy as jnp

    from distilbert_jax.losses import blockwise_logits
    from distilbert_jax.losses.hard_targets import HardTargets
    from distilbert_jax.losses.soft_targets import SoftTargets
    from distilbert_jax.types import FactoredLogits

    soft, hard = SoftTargets(), HardTargets()
    loss_functions: dict[str, blockwise_logits.LogitFunction] = {
        "soft": lambda student_logits, teacher_logits, labels: soft.values_from_logits(
            student_logits, teacher_logits["teacher"], labels
        ),
        "hard": lambda student_logits, teacher_logits, labels: hard.values_from_logits(student_logits, None, labels),
    }

    def dense(student: FactoredLogits, teacher: FactoredLogits, labels: Any, weights: Any) -> Any:
        student_logits, teacher_logits = student.to_dense(), {"teacher": teacher.to_dense()}
        mean = {
            name: jnp.sum(weights * loss(student_logits, teacher_logits, labels))
            for name, loss in loss_functions.items()
        }
        return 5 * mean["soft"] + 2 * mean["hard"]

    def by_blocks(student: FactoredLogits, teacher: FactoredLogits, labels: Any, weights: Any) -> Any:
        both = dict.fromkeys(loss_functions, weights)
        return blockwise_logits.blockwise_total(
            loss_functions, {"soft": 5.0, "hard": 2.0}, student, {"teacher": teacher}, labels, both
        )[0]

    def shape(*sizes: int, dtype: Any = dtype) -> Any:
        return jax.ShapeDtypeStruct(sizes, dtype)

    factors = FactoredLogits(
        features=shape(rows, tokens, HIDDEN_SIZE),
        embedding=shape(VOCAB_SIZE, HIDDEN_SIZE),
        bias=shape(VOCAB_SIZE, dtype=jnp.float32),
    )
    labels, weights = shape(rows, tokens, dtype=jnp.int32), shape(rows, tokens, dtype=jnp.float32)
    return jax.jit(jax.value_and_grad(by_blocks if blockwise else dense)), (factors, factors, labels, weights)


def side(*, blockwise: bool, rows: int, tokens: int, dtype: str) -> Turn:
    """Returns a turn that computes value and gradient once."""
    import jax
    import jax.numpy as jnp

    run, shapes = program(blockwise, rows, tokens, dtype)

    def random(x: Any) -> Any:
        if jnp.issubdtype(x.dtype, jnp.integer):
            return jax.random.randint(jax.random.key(0), x.shape, 0, VOCAB_SIZE)
        return 0.05 * jax.random.normal(jax.random.key(x.size), x.shape, x.dtype)

    arguments = jax.tree.map(random, shapes)
    large, large_shapes = program(blockwise, *LARGE_SHAPE, dtype)
    temporaries = large.lower(*large_shapes).compile().memory_analysis().temp_size_in_bytes

    def work() -> None:
        jax.block_until_ready(run(*arguments))

    return lambda: {"seconds": seconds(work), "temporaries": temporaries}


SIDES = {
    "block by block": functools.partial(side, blockwise=True),
    "dense": functools.partial(side, blockwise=False),
}


def tables(rows: int = 4, tokens: int = 128, repeats: int = 9) -> Iterator[Table]:
    """Yields one table for each dtype."""
    for dtype in ("float32", "bfloat16"):
        settings = {"rows": rows, "tokens": tokens, "dtype": dtype}
        measurements = take_turns(
            {name: Side(module="vocabulary", name=name, settings=settings) for name in SIDES}, repeats
        )
        medians = {name: statistics.median(figures["seconds"]) for name, figures in measurements.items()}
        large_rows, large_tokens = LARGE_SHAPE
        dense = measurements["dense"]["temporaries"][0]
        yield Table(
            title=f"Vocabulary losses, {rows} × {tokens} tokens, {dtype}; temporaries of {large_rows} × {large_tokens}",
            header=(
                "side",
                "seconds (quartiles)",
                "time relative to dense",
                "temporary memory, GB",
                "memory relative to dense",
            ),
            rows=[
                (
                    name,
                    spread(figures["seconds"]),
                    f"{medians[name] / medians['dense']:.2f} ×",
                    f"{figures['temporaries'][0] / 1e9:.2f}",
                    f"{figures['temporaries'][0] / dense:.1%}",
                )
                for name, figures in measurements.items()
            ],
            faster={f"dense losses, {dtype}": medians["dense"] / medians["block by block"]},
        )
