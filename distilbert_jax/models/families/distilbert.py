"""DistilBERT (Sanh et al., 2019): BERT without token types and pooler, under its own names."""

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
    **{f"{_LAYER}attention.{t}.weight": (f"layer_{{i}}/{o}/kernel", "to_heads") for t, o in _PROJECTIONS.items()},
    **{f"{_LAYER}attention.{t}.bias": (f"layer_{{i}}/{o}/bias", "heads") for t, o in _PROJECTIONS.items()},
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
_SUMMARIZED = {
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
    "sequence_classification": _SUMMARIZED,
    "multiple_choice": _SUMMARIZED,
    "token_classification": _CLASSIFIER,
    "question_answering": {
        "qa_outputs.weight": ("classifier/kernel", "dense"),
        "qa_outputs.bias": ("classifier/bias", "same"),
    },
}
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


def config_from_hub(hf: Mapping[str, Any]) -> TransformerConfig:
    """The shape a config.json states. `sinusoidal_pos_embds` is not read: where a file carries position weights,
    they win. KeyError, ValueError as `bert.config`.
    """
    return TransformerConfig(
        vocab_size=hf["vocab_size"],
        hidden_size=hf["dim"],
        num_layers=hf["n_layers"],
        num_heads=hf["n_heads"],
        mlp_size=hf["hidden_dim"],
        max_positions=hf["max_position_embeddings"],
        activation=activation_from_hub(hf.get("activation", "gelu")),
        dropout=hf.get("dropout", 0.1),
        attention_dropout=hf.get("attention_dropout", 0.1),
    )


def config_to_hub(config: TransformerConfig) -> dict[str, Any]:
    """The config.json of a shape; the inverse of `config`."""
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


def head_from_hub(hf: Mapping[str, Any], name: str) -> HeadConfig:
    """What a config.json states of the head `name`."""
    if name == "masked_lm":
        return HeadConfig()
    field, usual = _DROPOUT[name]
    labels = labels_from_hub(hf) if name.endswith("classification") else ()
    return HeadConfig(labels=labels, problem_type=hf.get("problem_type"), dropout=hf.get(field, usual))


def head_to_hub(head: HeadConfig, name: str) -> dict[str, Any]:
    """What config.json says of it; the inverse of `head`. The dropout of tags is the encoder's own."""
    dropout = {} if name in ("masked_lm", "token_classification") else {_DROPOUT[name][0]: head.dropout}
    return dropout | labels_to_hub(head)


def student_config(
    config: TransformerConfig, *, num_layers: int, dropout: float, attention_dropout: float
) -> TransformerConfig:
    """The shape of a student of this family whose weights come from a model of shape `config`.

    No token types, no dropout on the attention's output, LayerNorm ε 1e-12: the family's config.json can say nothing
    else.
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
