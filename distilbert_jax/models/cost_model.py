"""Floating point operations by arithmetic: what a pass cannot do without, however it is done.

Matrix products only, two operations for each multiply and add, as the meter of model FLOPs utilization has them
(Chowdhery et al., 2022, appendix B). What is computed twice to save memory is counted once, lookups are free, and a
token attends to its whole row, also where documents are packed.
"""

import dataclasses

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


SIZES = {"float32": 4, "bfloat16": 2, "float16": 2}
WIDE = 4  # bytes of what is float32 always: parameters, gradients, moments, scores of words
MOMENTS = 2  # of Adam


@dataclasses.dataclass(frozen=True, kw_only=True)
class Share:
    """What one device has of an update."""

    student: TransformerConfig
    teacher: TransformerConfig | None
    parameters: float  # of the student that it keeps, when devices share them
    taught: float  # parameters of the teacher that it keeps
    rows: int  # at once
    accumulation: int
    length: int
    places: int  # of a row that are asked
    block: int  # rows of scores of words that stand in memory at once

    def memory(self) -> float:
        """Bytes that stand in memory at once, at the least: parameters, moments and gradients, the teacher, what the
        backward pass needs of every layer, and one block of scores of words.
        """
        student, item = self.student, SIZES[self.student.dtype]
        teacher = SIZES[self.teacher.dtype] * self.taught if self.teacher else 0
        kept = self.rows * self.length * _kept(student, self.length) * student.num_layers * item
        scores = 2 * (2 if self.teacher else 1) * self.block * student.vocab_size * WIDE
        return WIDE * self.parameters * (2 + MOMENTS) + teacher + kept + scores

    def traffic(self) -> float:
        """Bytes that go to memory or come from it, if what one operation leaves the next one reads there, and the
        operations element by element are fused to those before: activations, weights, scores of words by blocks, and
        the optimizer.
        """
        tokens, times = self.rows * self.length, self.accumulation
        models = [(self.student, 1 + BACKWARD)] + ([(self.teacher, 1)] if self.teacher else [])
        total = WIDE * self.parameters * 2 * (2 + MOMENTS)  # each read and written
        for cfg, passes in models:
            item, blocks = SIZES[cfg.dtype], -(-self.rows * self.places // self.block)
            layers = cfg.num_layers * (12 * cfg.hidden_size**2 * item + 2 * tokens * _kept(cfg, self.length) * item)
            table = cfg.vocab_size * cfg.hidden_size * (item * passes + (2 * WIDE if passes > 1 else 0))
            scores = 2 * self.block * cfg.vocab_size * WIDE * passes
            total += times * (passes * layers + blocks * (table + scores))
        return total


def _kept(cfg: TransformerConfig, length: int) -> int:
    """Numbers that a layer leaves for each token: q, k, v, what attention gives, its projection, two norms, the MLP
    before and after its activation, and the probabilities where the kernel writes them.
    """
    if cfg.remat == "layers":
        return cfg.hidden_size
    probabilities = cfg.num_heads * length if cfg.attention == "xla" and cfg.remat == "nothing" else 0
    return 8 * cfg.hidden_size + 2 * cfg.mlp_size + probabilities
