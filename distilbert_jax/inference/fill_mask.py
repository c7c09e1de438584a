"""Fill-mask inference: the most probable words for a masked token."""

from collections.abc import Callable
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from distilbert_jax.data.masking import compute_positions
from distilbert_jax.data.tokenizer.tokenizer import Tokenizer
from distilbert_jax.hub.load import PretrainedModel
from distilbert_jax.inference.predict import check_text
from distilbert_jax.types import Batch

MAX_TEXT_TOKENS = 128  # length of the compiled row; shorter texts are padded

EXAMPLE_SENTENCES = (
    "The function returns a list of [MASK].",
    "If the file does not [MASK], an error is raised.",
    "He opened the door and walked into the [MASK].",
)

FillMaskFunction = Callable[[np.ndarray, int], Float[Array, " v"]]
"""(token ids of one text, position) -> logits of every token of the vocabulary at this position."""


def make_fill_mask(model: PretrainedModel) -> FillMaskFunction:
    """Returns a jitted function that computes the logits at one position of one text.

    Args:
        model: a model with a masked language modeling head.

    Returns:
        The function. It raises ValueError for a text of more than 128 tokens, or of more tokens than the model has
        positions.
    """
    params = jax.tree.map(jnp.asarray, model.params)
    length = min(MAX_TEXT_TOKENS, model.config.max_positions)

    @jax.jit
    def forward(ids: Array, segment_ids: Array, position: Array) -> Array:
        batch = Batch.from_tokens(
            ids, segment_ids=segment_ids, positions=compute_positions(segment_ids), predict_positions=position
        )
        outputs: Any = model.module.apply({"params": params}, batch)
        return outputs.logits.to_dense()[0, 0]

    def predict(ids: np.ndarray, position: int) -> Array:
        if len(ids) > length:
            raise ValueError(f"the text has {len(ids)} tokens, but at most {length} are allowed; shorten it")
        padded = np.zeros((2, 1, length), np.int32)
        padded[0, 0, : len(ids)], padded[1, 0, : len(ids)] = ids, 1
        return forward(padded[0], padded[1], np.array([[position]]))

    return predict


@overload
def fill_mask(
    predict: FillMaskFunction, tokenizer: Tokenizer, sentence: str, *, count: int = 5
) -> list[tuple[str, float]]: ...


@overload
def fill_mask(
    predict: FillMaskFunction, tokenizer: Tokenizer, sentence: list[str], *, count: int = 5
) -> list[list[tuple[str, float]]]: ...


def fill_mask(predict: FillMaskFunction, tokenizer: Tokenizer, sentence: Any, *, count: int = 5) -> Any:
    """Returns the most probable words for the masked token of a sentence, or of each sentence of a list.

    Args:
        predict: what `make_fill_mask` returned.
        tokenizer: the model's tokenizer.
        sentence: a text that contains the mask token once, such as "He opened the [MASK].", or a list of such texts.
        count: how many words to return.

    Returns:
        (word, probability), the most probable first; for a list, such a list for each sentence.

    Raises:
        ValueError: a sentence is not a text, does not contain exactly one mask token, or is too long; the list is
            empty; or `count` is less than 1.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"count must be a whole number of at least 1, not {count!r}")
    if not isinstance(sentence, list):
        return _fill_one_mask(predict, tokenizer, check_text(sentence, what="the sentence"), count)
    if not sentence:
        raise ValueError("the list of sentences is empty; give at least one text")
    texts = [check_text(text, what=f"sentence {number}") for number, text in enumerate(sentence, 1)]
    return [_fill_one_mask(predict, tokenizer, text, count) for text in texts]


def _fill_one_mask(
    predict: FillMaskFunction, tokenizer: Tokenizer, sentence: str, count: int
) -> list[tuple[str, float]]:
    """Returns (word, probability) of the `count` most probable words for the masked token of one sentence."""
    ids = np.array(tokenizer.backend.encode(sentence).ids)
    masked = np.flatnonzero(ids == tokenizer.mask_id)
    if len(masked) != 1:
        mask_token = tokenizer.backend.id_to_token(tokenizer.mask_id)
        raise ValueError(f"{sentence!r} contains {len(masked)} mask tokens; write {mask_token} exactly once")
    probabilities = np.asarray(jax.nn.softmax(predict(ids, int(masked[0]))))
    if not np.isfinite(probabilities).all():
        raise ValueError(
            f"the model's logits for {sentence!r} are NaN or infinite; its weights are damaged or too large: use "
            "another model"
        )
    # The embedding may have more rows than the tokenizer has tokens.
    words = [(tokenizer.backend.id_to_token(int(i)), float(probabilities[i])) for i in np.argsort(-probabilities)]
    return [(word, probability) for word, probability in words if word is not None][:count]
