"""Floating point operations by arithmetic: what a pass cannot do without, however it is done.

Matrix products only, two operations for each multiply and add, as the meter of model FLOPs utilization has them
(Chowdhery et al., 2022, appendix B). What is computed twice to save memory is counted once, lookups are free, and a
token attends to its whole row, also where documents are packed.
"""

from distilbert_jax.models.transformer import TransformerConfig

BACKWARD = 2  # passes forward that a pass backward is worth: a product by the input, and one by the weights


def of_encoder(cfg: TransformerConfig, *, rows: int, length: int) -> int:
    """Of one pass over `rows` rows of `length` tokens: dense layers, scores and weighted sums of attention."""
    d, tokens = cfg.hidden_size, rows * length
    dense = 2 * tokens * (4 * d * d + 2 * d * cfg.mlp_size)
    attention = 2 * tokens * 2 * length * d
    return cfg.num_layers * (dense + attention)


def of_masked_words(cfg: TransformerConfig, *, places: int) -> int:
    """Of the masked-word head, at as many places."""
    return 2 * places * cfg.hidden_size * (cfg.hidden_size + cfg.vocab_size)


def of_update(
    student: TransformerConfig, teacher: TransformerConfig | None, *, rows: int, length: int, places: int
) -> int:
    """Of one update of distillation: the student forward and backward, the teacher forward, each with its head at
    `places` places of a row.
    """
    forward = lambda cfg: (
        of_encoder(cfg, rows=rows, length=length) + of_masked_words(cfg, places=rows * places) if cfg else 0
    )
    return (1 + BACKWARD) * forward(student) + forward(teacher)
