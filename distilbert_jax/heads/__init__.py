"""What stands on the encoder for a task: one file each."""

import importlib

import flax.linen as nn

from distilbert_jax.models.transformer import HeadConfig, TransformerConfig

HEADS = {
    "masked_lm": "MaskedLM",
    "sequence_classification": "SequenceClassification",
    "token_classification": "TokenClassification",
    "question_answering": "QuestionAnswering",
    "multiple_choice": "MultipleChoice",
}
"""The file of each head, and the module in it."""


def build_model(name: str, config: TransformerConfig, head: HeadConfig) -> nn.Module:
    """A model with the head `name`."""
    module: nn.Module = getattr(importlib.import_module(f"distilbert_jax.heads.{name}"), HEADS[name])(config, head)
    return module
