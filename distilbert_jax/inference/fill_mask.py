"""A model's best words for a gap in a sentence."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from distilbert_jax.data.masking import compute_positions
from distilbert_jax.data.tokenizer.tokenizer import Tokenizer
from distilbert_jax.hub.load import PretrainedModel
from distilbert_jax.types import Batch

MAX_TOKENS = 128  # of the compiled row; shorter texts are padded

EXAMPLE_SENTENCES = (
    "The function returns a list of [MASK].",
    "If the file does not [MASK], an error is raised.",
    "He opened the door and walked into the [MASK].",
)

FillMaskFunction = Callable[[np.ndarray, int], Float[Array, " v"]]


def make_fill_mask(model: PretrainedModel) -> FillMaskFunction:
    """A compiled function (ids of one text, place) -> the scores of every word there."""
    params = jax.tree.map(jnp.asarray, model.params)
    length = min(MAX_TOKENS, model.config.max_positions)

    @jax.jit
    def scores(ids: Array, segments: Array, at: Array) -> Array:
        batch = Batch.from_tokens(
            ids, segment_ids=segments, positions=compute_positions(segments), predict_positions=at
        )
        outputs: Any = model.module.apply({"params": params}, batch)
        return outputs.logits.to_dense()[0, 0]

    def run(ids: np.ndarray, at: int) -> Array:
        if len(ids) > length:
            raise ValueError(f"a text of {len(ids)} tokens is too long: the model reads {length}")
        padded = np.zeros((2, 1, length), np.int32)
        padded[0, 0, : len(ids)], padded[1, 0, : len(ids)] = ids, 1
        return scores(padded[0], padded[1], np.array([[at]]))

    return run


def fill_mask(
    predict: FillMaskFunction, tokenizer: Tokenizer, sentence: str, *, count: int = 5
) -> list[tuple[str, float]]:
    """The most probable words for the one gap of `sentence`, with their probabilities. ValueError unless it has one."""
    ids = np.array(tokenizer.backend.encode(sentence).ids)
    places = np.flatnonzero(ids == tokenizer.mask_id)
    if len(places) != 1:
        raise ValueError(
            f"{sentence!r} has {len(places)} gaps; write one as {tokenizer.backend.id_to_token(tokenizer.mask_id)}"
        )
    probabilities = np.asarray(jax.nn.softmax(predict(ids, int(places[0]))))
    order = np.argsort(-probabilities)[:count]
    return [(str(tokenizer.backend.id_to_token(int(i))), float(probabilities[i])) for i in order]
