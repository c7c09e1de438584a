"""Floating point operations by arithmetic: what a pass cannot do without, however it is done.

Matrix products only, two operations for each multiply and add, as the meter of model FLOPs utilization has them
(Chowdhery et al., 2022, appendix B). What is computed twice to save memory is counted once, lookups are free, and a
token attends to its whole row, also where documents are packed.
"""

import dataclasses

from distilbert_jax.models.transformer import TransformerConfig

BACKWARD_PASSES = 2  # passes forward that a pass backward is worth: a product by the input, and one by the weights


def encoder_flops(config: TransformerConfig, *, rows: int, length: int) -> int:
    """Of one pass over `rows` rows of `length` tokens: dense layers, scores and weighted sums of attention."""
    d, tokens = config.hidden_size, rows * length
    dense = 2 * tokens * (4 * d * d + 2 * d * config.mlp_size)
    attention = 2 * tokens * 2 * length * d
    return config.num_layers * (dense + attention)


def masked_lm_head_flops(config: TransformerConfig, *, num_predictions: int) -> int:
    """Of the masked-word head, at as many places."""
    return 2 * num_predictions * config.hidden_size * (config.hidden_size + config.vocab_size)


def update_flops(
    student: TransformerConfig, teacher: TransformerConfig | None, *, rows: int, length: int, num_predictions: int
) -> int:
    """Of one update of distillation: the student forward and backward, the teacher forward, each with its head at
    `places` places of a row.
    """
    forward = lambda config: (
        encoder_flops(config, rows=rows, length=length)
        + masked_lm_head_flops(config, num_predictions=rows * num_predictions)
        if config
        else 0
    )
    return (1 + BACKWARD_PASSES) * forward(student) + forward(teacher)


DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
FLOAT32_BYTES = 4  # bytes of what is float32 always: parameters, gradients, moments, scores of words
ADAM_MOMENTS = 2  # of Adam


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceWorkload:
    """What one device has of an update."""

    student: TransformerConfig
    teacher: TransformerConfig | None
    parameters: float  # of the student that it keeps, when devices share them
    teacher_parameters: float  # parameters of the teacher that it keeps
    rows: int  # at once
    accumulation: int
    length: int
    num_predictions: int  # of a row that are asked
    block_rows: int  # rows of scores of words that stand in memory at once

    def memory_bytes(self) -> float:
        """Bytes that stand in memory at once, at the least: parameters, moments and gradients, the teacher, what the
        backward pass needs of every layer, and one block of scores of words.
        """
        student, item = self.student, DTYPE_BYTES[self.student.dtype]
        teacher = DTYPE_BYTES[self.teacher.dtype] * self.teacher_parameters if self.teacher else 0
        kept = self.rows * self.length * _kept(student, self.length) * student.num_layers * item
        scores = 2 * (2 if self.teacher else 1) * self.block_rows * student.vocab_size * FLOAT32_BYTES
        return FLOAT32_BYTES * self.parameters * (2 + ADAM_MOMENTS) + teacher + kept + scores

    def traffic_bytes(self) -> float:
        """Bytes that go to memory or come from it, if what one operation leaves the next one reads there, and the
        operations element by element are fused to those before: activations, weights, scores of words by blocks, and
        the optimizer.
        """
        tokens, times = self.rows * self.length, self.accumulation
        models = [(self.student, 1 + BACKWARD_PASSES)] + ([(self.teacher, 1)] if self.teacher else [])
        total = FLOAT32_BYTES * self.parameters * 2 * (2 + ADAM_MOMENTS)  # each read and written
        for config, passes in models:
            item, blocks = DTYPE_BYTES[config.dtype], -(-self.rows * self.num_predictions // self.block_rows)
            layers = config.num_layers * (
                12 * config.hidden_size**2 * item + 2 * tokens * _kept(config, self.length) * item
            )
            table = config.vocab_size * config.hidden_size * (item * passes + (2 * FLOAT32_BYTES if passes > 1 else 0))
            scores = 2 * self.block_rows * config.vocab_size * FLOAT32_BYTES * passes
            total += times * (passes * layers + blocks * (table + scores))
        return total


def _kept(config: TransformerConfig, length: int) -> int:
    """Numbers that a layer leaves for each token: q, k, v, what attention gives, its projection, two norms, the MLP
    before and after its activation, and the probabilities where the kernel writes them.
    """
    if config.remat == "layers":
        return config.hidden_size
    probabilities = config.num_heads * length if config.attention == "xla" and config.remat == "none" else 0
    return 8 * config.hidden_size + 2 * config.mlp_size + probabilities
