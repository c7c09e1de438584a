"""The heads: what computes the logits of a task from the hidden states of the encoder. Each has a file of its own.

A head is a Flax module with the fields `config` and `head`. It contains the encoder under the name "encoder", and
returns the encoder's outputs with `logits`.
"""

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
"""For the name of each head, which is also that of its file, the class in it."""


def build_model(name: str, config: TransformerConfig, head: HeadConfig) -> nn.Module:
    """Returns a model: the encoder of `config` with a head.

    Args:
        name: a key of `HEADS`.
        config: the config of the encoder.
        head: the settings of the head.
    """
    module: nn.Module = getattr(importlib.import_module(f"distilbert_jax.heads.{name}"), HEADS[name])(config, head)
    return module
