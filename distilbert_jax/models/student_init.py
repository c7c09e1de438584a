"""A student cut from a larger model: some of its layers, its embeddings, its head. What was copied is said, never
assumed.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from distilbert_jax.models.transformer import TransformerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudentInit:
    """`params` of the student, and one line for each thing that was done to get them."""

    params: dict[str, Any]
    copied: tuple[str, ...]


def init_from_layers(
    source: dict[str, Any],
    *,
    source_config: TransformerConfig,
    student_config: TransformerConfig,
    layers: tuple[int, ...],
) -> StudentInit:
    """Student layer i is layer `layers[i]` of the source; embeddings, norms and, where there is one, the head come
    along.

    A student without token types gets the source's row 0 added to its position embeddings (Sanh et al. dropped it): the
    source adds that row to every token of a single text, so the student's embedding output equals the source's before
    the first step.

    Raises ValueError for a layer the source does not have.
    """
    wrong = [i for i in layers if not 0 <= i < source_config.num_layers]
    if wrong or not layers:
        raise ValueError(
            f"student.layers {layers}: the model it starts from has layers 0 to {source_config.num_layers - 1}"
        )
    theirs = source["encoder"]
    encoder = {"words": theirs["words"], "positions": theirs["positions"], "norm": theirs["norm"]}
    copied = ["word embeddings, position embeddings and their LayerNorm"]
    if student_config.num_token_types:
        encoder["token_types"] = theirs["token_types"]
        copied.append(f"{student_config.num_token_types} token types")
    elif source_config.num_token_types:
        encoder["positions"] = {"embedding": theirs["positions"]["embedding"] + theirs["token_types"]["embedding"][0]}
        copied.append("token type 0, folded into the position embeddings")
    for ours, layer in enumerate(layers):
        encoder[f"layer_{ours}"] = theirs[f"layer_{layer}"]
    copied.append("layers " + ", ".join(f"{layer} → {ours}" for ours, layer in enumerate(layers)))
    head = {name: value for name, value in source.items() if name != "encoder"}
    if head:
        copied.append("masked-word head: transform, LayerNorm and output bias")
    return StudentInit(params={"encoder": encoder, **head}, copied=tuple(copied))


def init_masked_lm_head(config: TransformerConfig, *, log_frequency: np.ndarray, seed: int) -> dict[str, Any]:
    """A masked-word head for an encoder without one: it starts by answering each word as often as the corpus has it.

    Args:
        config: the encoder's shape.
        log_frequency: [v], the log of each word's share of the corpus.
        seed: of the transform's weights, normal(0.02).
    """
    d = config.hidden_size
    kernel = np.random.default_rng(seed).normal(0.0, 0.02, (d, d)).astype(np.float32)
    zeros, ones = np.zeros(d, np.float32), np.ones(d, np.float32)
    return {
        "transform": {"kernel": kernel, "bias": zeros},
        "norm": {"scale": ones, "bias": zeros},
        "bias": log_frequency.astype(np.float32),
    }


def add_missing_params(params: Mapping[str, Any], like: Any, *, seed: int) -> tuple[dict[str, Any], tuple[str, ...]]:
    """(`params` with what `like` has beyond them, the names of the new layers): kernels and embeddings normal(0.02),
    biases zero, scales one.
    """
    there, wanted = flatten_dict(params, sep="/"), flatten_dict(like, sep="/")
    random = np.random.default_rng(seed)
    new = {name: x.shape for name, x in wanted.items() if name not in there}
    draw: Mapping[str, Callable[[Any], np.ndarray]] = {
        "kernel": lambda shape: random.normal(0.0, 0.02, shape),
        "embedding": lambda shape: random.normal(0.0, 0.02, shape),
        "scale": np.ones,
        "bias": np.zeros,
    }
    made = {name: draw[name.rpartition("/")[2]](shape).astype(np.float32) for name, shape in new.items()}
    layers = tuple(sorted({name.rpartition("/")[0] for name in new}))
    return unflatten_dict({name: there.get(name, made.get(name)) for name in wanted}, sep="/"), layers
