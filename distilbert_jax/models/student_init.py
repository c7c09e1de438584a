"""Initializes a student from some layers of a larger model, and creates parameters that a model lacks."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from distilbert_jax.models.transformer import TransformerConfig
from distilbert_jax.seeds import seed_words


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudentInit:
    """The initial parameters of a student, and where they come from."""

    params: dict[str, Any]
    copied: tuple[str, ...]  # one phrase for each part that was copied, for the model card


def init_from_layers(
    source: dict[str, Any],
    *,
    source_config: TransformerConfig,
    student_config: TransformerConfig,
    layers: tuple[int, ...],
) -> StudentInit:
    """Returns a student whose layer i is layer `layers[i]` of the source, with the source's embeddings and head.

    If the student has no token types and the source has them, the embedding of token type 0 is added to the position
    embeddings. The source adds it to every token of a single text, so before the first step the embeddings of the
    student are those of the source. (Sanh et al. left it out.)

    Args:
        source: the parameters of the larger model.
        source_config: the config of its encoder.
        student_config: the config of the student's encoder.
        layers: layers of the source, counted from 0.

    Raises:
        ValueError: `layers` is empty or names a layer that the source does not have.
    """
    invalid = [i for i in layers if not 0 <= i < source_config.num_layers]
    if invalid or not layers:
        raise ValueError(
            f"student.layers is {layers}, but the model it starts from has layers 0 to {source_config.num_layers - 1}. "
            "Choose one or more of these."
        )
    source_encoder = source["encoder"]
    encoder = {name: source_encoder[name] for name in ("words", "positions", "norm")}
    copied = ["word embeddings, position embeddings and their LayerNorm"]
    if student_config.num_token_types:
        encoder["token_types"] = source_encoder["token_types"]
        copied.append(f"{student_config.num_token_types} token types")
    elif source_config.num_token_types:
        token_type_0 = source_encoder["token_types"]["embedding"][0]
        encoder["positions"] = {"embedding": source_encoder["positions"]["embedding"] + token_type_0}
        copied.append("token type 0, added to the position embeddings")
    for i, layer in enumerate(layers):
        encoder[f"layer_{i}"] = source_encoder[f"layer_{layer}"]
    copied.append("layers " + ", ".join(f"{layer} → {i}" for i, layer in enumerate(layers)))
    head = {name: value for name, value in source.items() if name != "encoder"}
    if head:
        copied.append("masked LM head: transform, LayerNorm and output bias")
    return StudentInit(params={"encoder": encoder, **head}, copied=tuple(copied))


def init_masked_lm_head(config: TransformerConfig, *, log_frequency: np.ndarray, seed: int) -> dict[str, Any]:
    """Returns the parameters of a masked LM head for an encoder without one.

    Its bias makes it predict every token about as often as the token is found in the corpus.

    Args:
        config: the config of the encoder.
        log_frequency: [v], the logarithm of the fraction of the corpus that each token is.
        seed: the seed of the transform's kernel, which is normal with a standard deviation of 0.02.
    """
    d = config.hidden_size
    kernel = np.random.default_rng(seed_words(seed)).normal(0.0, 0.02, (d, d)).astype(np.float32)
    zeros, ones = np.zeros(d, np.float32), np.ones(d, np.float32)
    return {
        "transform": {"kernel": kernel, "bias": zeros},
        "norm": {"scale": ones, "bias": zeros},
        "bias": log_frequency.astype(np.float32),
    }


def add_missing_params(params: Mapping[str, Any], like: Any, *, seed: int) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns (`params` completed to the tree of `like`, the names of the new layers).

    New kernels and embeddings are normal with a standard deviation of 0.02, biases are 0 and scales 1.

    Args:
        params: the parameters that exist.
        like: the tree of all parameters, as arrays or their shapes.
        seed: the seed of the new kernels and embeddings.
    """
    existing, expected = flatten_dict(params, sep="/"), flatten_dict(like, sep="/")
    random = np.random.default_rng(seed_words(seed))

    def draw_normal(shape: tuple[int, ...]) -> np.ndarray:
        return random.normal(0.0, 0.02, shape)

    initializers: Mapping[str, Callable[[Any], np.ndarray]] = {
        "kernel": draw_normal,
        "embedding": draw_normal,
        "scale": np.ones,
        "bias": np.zeros,
    }
    missing = {name: x.shape for name, x in expected.items() if name not in existing}
    created = {name: initializers[name.rpartition("/")[2]](shape).astype(np.float32) for name, shape in missing.items()}
    layers = tuple(sorted({name.rpartition("/")[0] for name in missing}))
    return unflatten_dict({name: existing.get(name, created.get(name)) for name in expected}, sep="/"), layers
