"""BERT (Devlin et al., 2018), and what shares its names: MiniLM, TinyBERT and BERT of any size."""

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


def config_from_hub(hf: Mapping[str, Any]) -> TransformerConfig:
    """The shape a config.json states. KeyError where it leaves one out, ValueError where it is something else than
    this encoder.
    """
    if hf.get("position_embedding_type", "absolute") != "absolute":
        raise ValueError(f"position_embedding_type {hf['position_embedding_type']!r} is not supported: only 'absolute'")
    if hf.get("is_decoder"):
        raise ValueError("is_decoder is true: only encoders can be read")
    return TransformerConfig(
        vocab_size=hf["vocab_size"],
        hidden_size=hf["hidden_size"],
        num_layers=hf["num_hidden_layers"],
        num_heads=hf["num_attention_heads"],
        mlp_size=hf["intermediate_size"],
        max_positions=hf["max_position_embeddings"],
        num_token_types=hf["type_vocab_size"],
        norm_eps=hf.get("layer_norm_eps", 1e-12),
        activation=activation_from_hub(hf.get("hidden_act", "gelu")),
        dropout=hf.get("hidden_dropout_prob", 0.1),
        attention_dropout=hf.get("attention_probs_dropout_prob", 0.1),
        attention_output_dropout=hf.get("hidden_dropout_prob", 0.1),
    )


def config_to_hub(config: TransformerConfig) -> dict[str, Any]:
    """The config.json of a shape; the inverse of `config`."""
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


def head_from_hub(hf: Mapping[str, Any], name: str) -> HeadConfig:
    """What a config.json states of the head `name`."""
    if name == "masked_lm":
        return HeadConfig()
    dropout = hf.get("classifier_dropout")
    if dropout is None:
        dropout = hf.get("hidden_dropout_prob", 0.1)
    return HeadConfig(
        labels=labels_from_hub(hf) if name.endswith("classification") else (),
        problem_type=hf.get("problem_type"),
        pooler_activation="tanh",
        dropout=0.0 if name == "question_answering" else dropout,
    )


def head_to_hub(head: HeadConfig, name: str) -> dict[str, Any]:
    """What config.json says of it; the inverse of `head`."""
    dropout = {} if name in ("masked_lm", "question_answering") else {"classifier_dropout": head.dropout}
    return dropout | labels_to_hub(head)


def student_config(
    config: TransformerConfig, *, num_layers: int, dropout: float, attention_dropout: float
) -> TransformerConfig:
    """The shape of a student of this family whose weights come from a model of shape `config`. ValueError where it
    cannot be one.
    """
    if not config.num_token_types:
        raise ValueError(
            "a bert student needs token types, and the model it starts from has none; make it student.family=distilbert"
        )
    return dataclasses.replace(
        config,
        num_layers=num_layers,
        dropout=dropout,
        attention_dropout=attention_dropout,
        attention_output_dropout=dropout,
    )
