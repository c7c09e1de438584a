"""BERT (Devlin et al., 2018) of any size, and models that use its names, such as MiniLM and TinyBERT."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from distilbert_jax.models.families.common import HUB_ACTIVATIONS, activation_from_hub, labels_from_hub, labels_to_hub
from distilbert_jax.models.transformer import HeadConfig, TransformerConfig

MODEL_TYPE = "bert"
ARCHITECTURES = {
    "masked_lm": "BertForMaskedLM",
    "sequence_classification": "BertForSequenceClassification",
    "token_classification": "BertForTokenClassification",
    "question_answering": "BertForQuestionAnswering",
    "multiple_choice": "BertForMultipleChoice",
}
TOKENIZER = "BertTokenizer"
PREFIX = "bert."
_LAYER = "bert.encoder.layer.{i}."

ENCODER = {
    "bert.embeddings.word_embeddings.weight": ("words/embedding", "same"),
    "bert.embeddings.position_embeddings.weight": ("positions/embedding", "same"),
    "bert.embeddings.token_type_embeddings.weight": ("token_types/embedding", "same"),
    "bert.embeddings.LayerNorm.weight": ("norm/scale", "same"),
    "bert.embeddings.LayerNorm.bias": ("norm/bias", "same"),
    **{
        f"{_LAYER}attention.self.{n}.weight": (f"layer_{{i}}/{n}/kernel", "to_heads") for n in ("query", "key", "value")
    },
    **{f"{_LAYER}attention.self.{n}.bias": (f"layer_{{i}}/{n}/bias", "heads") for n in ("query", "key", "value")},
    _LAYER + "attention.output.dense.weight": ("layer_{i}/out/kernel", "from_heads"),
    _LAYER + "attention.output.dense.bias": ("layer_{i}/out/bias", "same"),
    _LAYER + "attention.output.LayerNorm.weight": ("layer_{i}/attention_norm/scale", "same"),
    _LAYER + "attention.output.LayerNorm.bias": ("layer_{i}/attention_norm/bias", "same"),
    _LAYER + "intermediate.dense.weight": ("layer_{i}/up/kernel", "dense"),
    _LAYER + "intermediate.dense.bias": ("layer_{i}/up/bias", "same"),
    _LAYER + "output.dense.weight": ("layer_{i}/down/kernel", "dense"),
    _LAYER + "output.dense.bias": ("layer_{i}/down/bias", "same"),
    _LAYER + "output.LayerNorm.weight": ("layer_{i}/mlp_norm/scale", "same"),
    _LAYER + "output.LayerNorm.bias": ("layer_{i}/mlp_norm/bias", "same"),
}
_CLASSIFIER = {"classifier.weight": ("classifier/kernel", "dense"), "classifier.bias": ("classifier/bias", "same")}
_POOLED = {
    "bert.pooler.dense.weight": ("summary/kernel", "dense"),
    "bert.pooler.dense.bias": ("summary/bias", "same"),
    **_CLASSIFIER,
}
HEADS = {
    "masked_lm": {
        "cls.predictions.transform.dense.weight": ("transform/kernel", "dense"),
        "cls.predictions.transform.dense.bias": ("transform/bias", "same"),
        "cls.predictions.transform.LayerNorm.weight": ("norm/scale", "same"),
        "cls.predictions.transform.LayerNorm.bias": ("norm/bias", "same"),
        "cls.predictions.bias": ("bias", "same"),
    },
    "sequence_classification": _POOLED,
    "multiple_choice": _POOLED,
    "token_classification": _CLASSIFIER,
    "question_answering": {
        "qa_outputs.weight": ("classifier/kernel", "dense"),
        "qa_outputs.bias": ("classifier/bias", "same"),
    },
}
TIED = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
OTHER_HEADS = ("bert.pooler.", "cls.seq_relationship.", "classifier.", "qa_outputs.")
BUFFERS = ("bert.embeddings.position_ids",)

BASE = TransformerConfig(
    vocab_size=30_522, num_token_types=2, dropout=0.1, attention_dropout=0.1, attention_output_dropout=0.1
)


def config_from_hub(hub_config: Mapping[str, Any]) -> TransformerConfig:
    """Returns the config of the encoder that a config.json states.

    Raises:
        KeyError: a size is missing.
        ValueError: a value is invalid, or the model is not an encoder that this package can build.
    """
    if hub_config.get("position_embedding_type", "absolute") != "absolute":
        raise ValueError(
            f"position_embedding_type {hub_config['position_embedding_type']!r} is not supported. Use a model with "
            "absolute position embeddings."
        )
    if hub_config.get("is_decoder"):
        raise ValueError("is_decoder is true, but only encoders are supported")
    return TransformerConfig(
        vocab_size=hub_config["vocab_size"],
        hidden_size=hub_config["hidden_size"],
        num_layers=hub_config["num_hidden_layers"],
        num_heads=hub_config["num_attention_heads"],
        mlp_size=hub_config["intermediate_size"],
        max_positions=hub_config["max_position_embeddings"],
        num_token_types=hub_config["type_vocab_size"],
        norm_eps=hub_config.get("layer_norm_eps", 1e-12),
        activation=activation_from_hub(hub_config.get("hidden_act", "gelu")),
        dropout=hub_config.get("hidden_dropout_prob", 0.1),
        attention_dropout=hub_config.get("attention_probs_dropout_prob", 0.1),
        attention_output_dropout=hub_config.get("hidden_dropout_prob", 0.1),
    )


def config_to_hub(config: TransformerConfig) -> dict[str, Any]:
    """Returns the part of a config.json that states the encoder: the inverse of `config_from_hub`."""
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.mlp_size,
        "max_position_embeddings": config.max_positions,
        "type_vocab_size": config.num_token_types,
        "layer_norm_eps": config.norm_eps,
        "hidden_act": HUB_ACTIVATIONS[config.activation],
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "initializer_range": 0.02,
    }


def head_from_hub(hub_config: Mapping[str, Any], name: str) -> HeadConfig:
    """Returns the settings of the head `name` in a config.json."""
    if name == "masked_lm":
        return HeadConfig()
    dropout = hub_config.get("classifier_dropout")
    if dropout is None:
        dropout = hub_config.get("hidden_dropout_prob", 0.1)
    return HeadConfig(
        labels=labels_from_hub(hub_config) if name.endswith("classification") else (),
        problem_type=hub_config.get("problem_type"),
        pooler_activation="tanh",
        dropout=0.0 if name == "question_answering" else dropout,
    )


def head_to_hub(head: HeadConfig, name: str) -> dict[str, Any]:
    """Returns the part of a config.json that states the head `name`: the inverse of `head_from_hub`."""
    dropout = {} if name in ("masked_lm", "question_answering") else {"classifier_dropout": head.dropout}
    return dropout | labels_to_hub(head)


def student_config(
    config: TransformerConfig, *, num_layers: int, dropout: float, attention_dropout: float
) -> TransformerConfig:
    """Returns the config of a BERT student.

    Args:
        config: the config of the model that the student's weights come from.
        num_layers: the number of layers of the student.
        dropout: the rate for `dropout` and `attention_output_dropout`.
        attention_dropout: the rate for `attention_dropout`.

    Raises:
        ValueError: the model has no token types, which every BERT has.
    """
    if not config.num_token_types:
        raise ValueError(
            "a bert student needs token types, but the model it starts from has none. Set student.family=distilbert."
        )
    return dataclasses.replace(
        config,
        num_layers=num_layers,
        dropout=dropout,
        attention_dropout=attention_dropout,
        attention_output_dropout=dropout,
    )
