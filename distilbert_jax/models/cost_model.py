"""Computes the cost of training steps from the sizes of the models: FLOPs, memory and memory traffic.

FLOPs are those that a pass requires, however it is implemented, as model FLOPs utilization counts them (Chowdhery et
al., 2022, appendix B): matrix products only, with two operations for each multiply-add. What is recomputed to save
memory counts once, embedding lookups are free, and a token attends to its whole row, even if documents are packed.
"""

import dataclasses

from distilbert_jax.models.transformer import TransformerConfig

BACKWARD_PASSES = 2
"""How many forward passes a backward pass costs: each product has a gradient for its input and one for its weights."""


def encoder_flops(config: TransformerConfig, *, rows: int, length: int) -> int:
    """Returns the FLOPs of a forward pass of the encoder over `rows` rows of `length` tokens.

    They are those of the dense layers, and of the two products of attention: q kᵀ, and the probabilities with v.
    """
    d, tokens = config.hidden_size, rows * length
    dense = 2 * tokens * (4 * d * d + 2 * d * config.mlp_size)
    attention = 2 * tokens * 2 * length * d
    return config.num_layers * (dense + attention)


def masked_lm_head_flops(config: TransformerConfig, *, num_predictions: int) -> int:
    """Returns the FLOPs of a forward pass of the masked LM head for this many predictions."""
    return 2 * num_predictions * config.hidden_size * (config.hidden_size + config.vocab_size)


def update_flops(
    student: TransformerConfig, teacher: TransformerConfig | None, *, rows: int, length: int, num_predictions: int
) -> int:
    """Returns the FLOPs of a step of distillation: student forward and backward, teacher forward, both with the head.

    Args:
        student: the config of the student.
        teacher: the config of the teacher, or None without one.
        rows: the rows of the global batch.
        length: the tokens of a row.
        num_predictions: the predictions of a row.
    """

    def forward_flops(config: TransformerConfig) -> int:
        encoder = encoder_flops(config, rows=rows, length=length)
        return encoder + masked_lm_head_flops(config, num_predictions=rows * num_predictions)

    teacher_flops = forward_flops(teacher) if teacher else 0
    return (1 + BACKWARD_PASSES) * forward_flops(student) + teacher_flops


DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
FLOAT32_BYTES = 4
"""Bytes of a value that is always float32: a parameter, a gradient, a moment of the optimizer, a logit."""

ADAM_MOMENTS = 2
"""Values that Adam keeps for each parameter."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceWorkload:
    """What one device computes and stores in a training step."""

    student: TransformerConfig
    teacher: TransformerConfig | None
    parameters: float  # parameters of the student that this device stores
    teacher_parameters: float  # parameters of the teacher that this device stores
    rows: int  # rows of a micro-batch on this device
    accumulation: int  # micro-batches of a step
    length: int  # tokens of a row
    num_predictions: int  # predictions of a row
    predictions_per_block: int  # predictions whose logits are in memory at once

    def memory_bytes(self) -> float:
        """Returns a lower bound of the device's peak memory, in bytes.

        It counts the student's parameters, gradients and moments, the teacher's parameters, the activations that the
        backward pass needs, and the logits of one block with their gradients.
        """
        student, value_bytes = self.student, DTYPE_BYTES[self.student.dtype]
        teacher = DTYPE_BYTES[self.teacher.dtype] * self.teacher_parameters if self.teacher else 0
        activations = (
            self.rows * self.length * _activations_per_token(student, self.length) * student.num_layers * value_bytes
        )
        logits = 2 * (2 if self.teacher else 1) * self.predictions_per_block * student.vocab_size * FLOAT32_BYTES
        return FLOAT32_BYTES * self.parameters * (2 + ADAM_MOMENTS) + teacher + activations + logits

    def traffic_bytes(self) -> float:
        """Returns how many bytes a step reads from and writes to the device's memory.

        It assumes that elementwise operations are fused to the operation before them, and that every other operation
        reads from memory what the one before has written there. It counts activations, weights, the logits of each
        block, and the optimizer.
        """
        tokens, micro_batches = self.rows * self.length, self.accumulation
        models = [(self.student, 1 + BACKWARD_PASSES)] + ([(self.teacher, 1)] if self.teacher else [])
        # The optimizer reads and writes parameters, gradients and moments once in a step.
        total = FLOAT32_BYTES * self.parameters * 2 * (2 + ADAM_MOMENTS)
        for config, passes in models:
            value_bytes, blocks = (
                DTYPE_BYTES[config.dtype],
                -(-self.rows * self.num_predictions // self.predictions_per_block),
            )
            weights = 12 * config.hidden_size**2 * value_bytes
            activations = 2 * tokens * _activations_per_token(config, self.length) * value_bytes
            layers = config.num_layers * (weights + activations)
            # Each block reads the word embeddings in every pass, and a backward pass adds to their float32 gradient.
            gradient_bytes = 2 * FLOAT32_BYTES if passes > 1 else 0
            embedding = config.vocab_size * config.hidden_size * (value_bytes * passes + gradient_bytes)
            logits = 2 * self.predictions_per_block * config.vocab_size * FLOAT32_BYTES * passes
            total += micro_batches * (passes * layers + blocks * (embedding + logits))
        return total


def _activations_per_token(config: TransformerConfig, length: int) -> int:
    """Returns how many values a layer keeps for each token.

    They are q, k, v, the attention's result, its projection, the two outputs of LayerNorm, the MLP before and after
    its activation, and the attention probabilities if the kernel writes them.
    """
    if config.remat == "layers":
        return config.hidden_size
    probabilities = config.num_heads * length if config.attention == "xla" and config.remat == "none" else 0
    return 8 * config.hidden_size + 2 * config.mlp_size + probabilities
