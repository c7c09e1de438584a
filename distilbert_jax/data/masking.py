"""Chooses and corrupts the tokens of masked language modelling, inside jit and from each row's own random key.

The corruption is that of BERT (Devlin et al., 2018). Rare tokens are preferred as in XLM (Lample and Conneau, 2019).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from distilbert_jax.types import Batch, PackedRows, RowKeys

MASK_SHARE = 0.8
"""Share of the masked tokens that become [MASK]."""

RANDOM_SHARE = 0.1
"""Share of the masked tokens that become a random token. The rest keep their token and are predicted all the same."""


def compute_log_preference(counts: Float[Array, " v"], special: Array, *, smoothing: float) -> Float[Array, " v"]:
    """Computes how strongly each token of the vocabulary is preferred for masking: log of max(count, 1)^−smoothing.

    Args:
        counts: how often each token occurs in the training rows.
        special: ids of special tokens. They get −inf, so that they are never chosen.
        smoothing: 0 chooses uniformly; a larger value prefers rare tokens more.
    """
    return (-smoothing * jnp.log(jnp.maximum(counts, 1.0))).at[special].set(-jnp.inf)


def num_predictions(tokens: Any, *, mask_rate: float, all_positions: bool = False) -> Any:
    """Returns how many of `tokens` tokens the model predicts: ceil(mask_rate · tokens), or all.

    The arithmetic is in integers, in thousandths: because products of floats round: 0.15 · 100 is more than 15
    in float32, in which devices compute, and 0.07 · 100 more than 7 in float64. `tokens` may be a Python integer or an
    array.
    """
    return tokens if all_positions else (round(mask_rate * 1_000) * tokens + 999) // 1_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenMasker:
    """Masks ceil(`mask_rate` · t) tokens of each row with t real tokens, drawn without replacement.

    [CLS] and [SEP] count as real tokens but are never chosen; a row with too few other tokens has fewer masked ones.
    BERT's original code draws the same share of a whole batch, so that its rows differ in number.

    Attributes:
        mask_id: id of [MASK].
        vocab_size: random tokens are drawn below this id.
        mask_rate: share of the real tokens that is masked.
        all_positions: predict at every real token instead of the masked ones only. Soft targets then cover all tokens,
            while labels still count at masked tokens only.
    """

    mask_id: int
    vocab_size: int
    mask_rate: float = 0.15
    all_positions: bool = False

    def __call__(self, keys: RowKeys, rows: PackedRows, preference: Float[Array, " v"]) -> Batch:
        """Makes a batch from packed rows.

        Args:
            keys: one random key per row.
            rows: the rows as the corpus has them.
            preference: `compute_log_preference` of the corpus.

        Returns:
            The batch with masked tokens. Its predictions are n = p = t with `all_positions`, otherwise
            n = p = ceil(`mask_rate` · t), where t is the length of a row.
        """
        t = rows.tokens.shape[1]
        token_mask = rows.segment_ids > 0

        def per_row(key, tokens, token_mask):
            """Masks one row. Returns its tokens, then positions, weights, label weights and labels of predictions."""
            choice_key, corruption_key, random_token_key = jax.random.split(key, 3)
            # The k largest of score + Gumbel noise are k draws without replacement.
            noise = jax.random.gumbel(choice_key, (t,))
            score = jnp.where(token_mask, preference[tokens], -jnp.inf) + noise
            order = jnp.argsort(-score)
            count = num_predictions(token_mask.sum(), mask_rate=self.mask_rate)
            is_drawn = (jnp.arange(t) < count) & jnp.isfinite(score[order])
            is_chosen = jnp.zeros(t, bool).at[order].set(is_drawn)
            u = jax.random.uniform(corruption_key, (t,))
            random_tokens = jax.random.randint(random_token_key, (t,), 0, self.vocab_size)
            replaced = jnp.where(u < MASK_SHARE + RANDOM_SHARE, random_tokens, tokens)
            corrupted = jnp.where(u < MASK_SHARE, self.mask_id, replaced)
            # The number of positions must not depend on the data under jit: where fewer are chosen, weights are 0.
            at = jnp.arange(t) if self.all_positions else order[: num_predictions(t, mask_rate=self.mask_rate)]
            is_predicted = token_mask[at] if self.all_positions else is_chosen[at]
            return jnp.where(is_chosen, corrupted, tokens), at, is_predicted, is_chosen[at], tokens[at]

        tokens, positions, is_predicted, is_labelled, labels = jax.vmap(per_row)(keys, rows.tokens, token_mask)
        return Batch(
            row_ids=rows.row_ids,
            epochs=rows.epochs,
            tokens=tokens,
            segment_ids=rows.segment_ids,
            positions=compute_positions(rows.segment_ids),
            token_types=jnp.zeros_like(tokens),
            predict_positions=positions,
            prediction_weights=is_predicted.astype(jnp.float32),
            label_weights=is_labelled.astype(jnp.float32),
            labels=labels,
        )


def compute_positions(segment_ids: Int[Array, "b t"]) -> Int[Array, "b t"]:
    """Computes each token's position in its own document, from 0."""
    at = jnp.broadcast_to(jnp.arange(segment_ids.shape[1])[None], segment_ids.shape)
    starts = jnp.diff(segment_ids, axis=1, prepend=-1) != 0
    return at - jax.lax.cummax(jnp.where(starts, at, 0), axis=1)
