"""DistilBERT (Sanh et al., 2019): BERT without token types and pooler, with its own names of weights."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from distilbert_jax.models.families.common import HUB_ACTIVATIONS, activation_from_hub, labels_from_hub, labels_to_hub
from distilbert_jax.models.transformer import HeadConfig, TransformerConfig

MODEL_TYPE = "distilbert"
ARCHITECTURES = {
    "masked_lm": "DistilBertForMaskedLM",
    "sequence_classification": "DistilBertForSequenceClassification",
    "token_classification": "DistilBertForTokenClassification",
    "question_answering": "DistilBertForQuestionAnswering",
    "multiple_choice": "DistilBertForMultipleChoice",
}
TOKENIZER = "DistilBertTokenizer"
PREFIX = "distilbert."
_LAYER = "distilbert.transformer.layer.{i}."
_PROJECTIONS = {"q_lin": "query", "k_lin": "key", "v_lin": "value"}

ENCODER = {
    "distilbert.embeddings.word_embeddings.weight": ("words/embedding", "same"),
    "distilbert.embeddings.position_embeddings.weight": ("positions/embedding", "same"),
    "distilbert.embeddings.LayerNorm.weight": ("norm/scale", "same"),
    "distilbert.embeddings.LayerNorm.bias": ("norm/bias", "same"),
    **{
        f"{_LAYER}attention.{hub_name}.weight": (f"layer_{{i}}/{our_name}/kernel", "to_heads")
        for hub_name, our_name in _PROJECTIONS.items()
    },
    **{
        f"{_LAYER}attention.{hub_name}.bias": (f"layer_{{i}}/{our_name}/bias", "heads")
        for hub_name, our_name in _PROJECTIONS.items()
    },
    _LAYER + "attention.out_lin.weight": ("layer_{i}/out/kernel", "from_heads"),
    _LAYER + "attention.out_lin.bias": ("layer_{i}/out/bias", "same"),
    _LAYER + "sa_layer_norm.weight": ("layer_{i}/attention_norm/scale", "same"),
    _LAYER + "sa_layer_norm.bias": ("layer_{i}/attention_norm/bias", "same"),
    _LAYER + "ffn.lin1.weight": ("layer_{i}/up/kernel", "dense"),
    _LAYER + "ffn.lin1.bias": ("layer_{i}/up/bias", "same"),
    _LAYER + "ffn.lin2.weight": ("layer_{i}/down/kernel", "dense"),
    _LAYER + "ffn.lin2.bias": ("layer_{i}/down/bias", "same"),
    _LAYER + "output_layer_norm.weight": ("layer_{i}/mlp_norm/scale", "same"),
    _LAYER + "output_layer_norm.bias": ("layer_{i}/mlp_norm/bias", "same"),
}
_CLASSIFIER = {"classifier.weight": ("classifier/kernel", "dense"), "classifier.bias": ("classifier/bias", "same")}
_POOLED = {
    "pre_classifier.weight": ("summary/kernel", "dense"),
    "pre_classifier.bias": ("summary/bias", "same"),
    **_CLASSIFIER,
}
HEADS = {
    "masked_lm": {
        "vocab_transform.weight": ("transform/kernel", "dense"),
        "vocab_transform.bias": ("transform/bias", "same"),
        "vocab_layer_norm.weight": ("norm/scale", "same"),
        "vocab_layer_norm.bias": ("norm/bias", "same"),
        "vocab_projector.bias": ("bias", "same"),
    },
    "sequence_classification": _POOLED,
    "multiple_choice": _POOLED,
    "token_classification": _CLASSIFIER,
    "question_answering": {
        "qa_outputs.weight": ("classifier/kernel", "dense"),
        "qa_outputs.bias": ("classifier/bias", "same"),
    },
}
# For each head, the key in config.json of the dropout before the output layer, and its default in Transformers.
_DROPOUT = {
    "sequence_classification": ("seq_classif_dropout", 0.2),
    "multiple_choice": ("seq_classif_dropout", 0.2),
    "token_classification": ("dropout", 0.1),
    "question_answering": ("qa_dropout", 0.1),
}
TIED = {"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"}
OTHER_HEADS = ("pre_classifier.", "classifier.", "qa_outputs.")
BUFFERS = ("distilbert.embeddings.position_ids",)

BASE = TransformerConfig(vocab_size=30_522, num_layers=6, dropout=0.1, attention_dropout=0.1)


def config_from_hub(hub_config: Mapping[str, Any]) -> TransformerConfig:
    """Returns the config of the encoder that a config.json states.

    `sinusoidal_pos_embds` is not read: the position embeddings are always those in the weights.

    Raises:
        KeyError: a size is missing.
        ValueError: a value is invalid.
    """
    return TransformerConfig(
        vocab_size=hub_config["vocab_size"],
        hidden_size=hub_config["dim"],
        num_layers=hub_config["n_layers"],
        num_heads=hub_config["n_heads"],
        mlp_size=hub_config["hidden_dim"],
        max_positions=hub_config["max_position_embeddings"],
        activation=activation_from_hub(hub_config.get("activation", "gelu")),
        dropout=hub_config.get("dropout", 0.1),
        attention_dropout=hub_config.get("attention_dropout", 0.1),
    )


def config_to_hub(config: TransformerConfig) -> dict[str, Any]:
    """Returns the part of a config.json that states the encoder: the inverse of `config_from_hub`."""
    return {
        "vocab_size": config.vocab_size,
        "dim": config.hidden_size,
        "n_layers": config.num_layers,
        "n_heads": config.num_heads,
        "hidden_dim": config.mlp_size,
        "max_position_embeddings": config.max_positions,
        "activation": HUB_ACTIVATIONS[config.activation],
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "sinusoidal_pos_embds": False,
        "initializer_range": 0.02,
        "qa_dropout": 0.1,
        "seq_classif_dropout": 0.2,
    }


def head_from_hub(hub_config: Mapping[str, Any], name: str) -> HeadConfig:
    """Returns the settings of the head `name` in a config.json."""
    if name == "masked_lm":
        return HeadConfig()
    field, default = _DROPOUT[name]
    labels = labels_from_hub(hub_config) if name.endswith("classification") else ()
    return HeadConfig(
        labels=labels, problem_type=hub_config.get("problem_type"), dropout=hub_config.get(field, default)
    )


def head_to_hub(head: HeadConfig, name: str) -> dict[str, Any]:
    """Returns the part of a config.json that states the head `name`: the inverse of `head_from_hub`.

    The dropout of token classification is the encoder's, which `config_to_hub` states.
    """
    dropout = {} if name in ("masked_lm", "token_classification") else {_DROPOUT[name][0]: head.dropout}
    return dropout | labels_to_hub(head)


def student_config(
    config: TransformerConfig, *, num_layers: int, dropout: float, attention_dropout: float
) -> TransformerConfig:
    """Returns the config of a DistilBERT student.

    It has no token types, no dropout on the attention's output, and a `norm_eps` of 1e-12, because a DistilBERT's
    config.json cannot state anything else.

    Args:
        config: the config of the model that the student's weights come from.
        num_layers: the number of layers of the student.
        dropout: the rate for `dropout`.
        attention_dropout: the rate for `attention_dropout`.
    """
    return dataclasses.replace(
        config,
        num_layers=num_layers,
        num_token_types=0,
        norm_eps=1e-12,
        dropout=dropout,
        attention_dropout=attention_dropout,
        attention_output_dropout=0.0,
    )
