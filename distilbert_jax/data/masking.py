"""Masked words, drawn inside jit from the row's own key (Devlin et al., 2018; rare words more often as in Lample and
Conneau, 2019).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from distilbert_jax.types import Batch, PackedRows, RowKeys

MASKED, REPLACED = 0.8, 0.1  # the other tenth keeps its word, and is asked all the same


def compute_log_preference(counts: Float[Array, " v"], special: Array, *, smoothing: float) -> Float[Array, " v"]:
    """How willingly each word is chosen: max(count, 1)^−smoothing, never a special token. 0 chooses uniformly."""
    return (-smoothing * jnp.log(jnp.maximum(counts, 1.0))).at[special].set(-jnp.inf)


def num_predictions(tokens: Any, *, mask_rate: float, all_positions: bool = False) -> Any:
    """How many of `tokens` are asked: ceil(share · tokens), in integers: in floats, 0.15 · 20 is more than 3."""
    return tokens if all_positions else (round(mask_rate * 1_000) * tokens + 999) // 1_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenMasker:
    """Asks for ceil(`share` · real tokens) words of each row, drawn without replacement.

    Per row, [CLS] and [SEP] counted; the original drew that share of a whole batch, so its rows differ in number. Fewer
    where a row has fewer words that may be chosen. `everywhere` asks at every real token (for soft targets on all of
    them): p = t, else p = ceil(`share` · t).
    """

    mask_id: int
    vocab_size: int  # random words are drawn below this id
    mask_rate: float = 0.15
    all_positions: bool = False

    def __call__(self, keys: RowKeys, rows: PackedRows, preference: Float[Array, " v"]) -> Batch:
        """`preference` is `log_preference` of the corpus."""
        t = rows.tokens.shape[1]
        real = rows.segment_ids > 0

        def of_row(key, tokens, real):
            k_where, k_how, k_word = jax.random.split(key, 3)
            score = jnp.where(real, preference[tokens], -jnp.inf) + jax.random.gumbel(
                k_where, (t,)
            )  # Gumbel top-k: without replacement
            order = jnp.argsort(-score)
            wanted = (jnp.arange(t) < num_predictions(real.sum(), mask_rate=self.mask_rate)) & jnp.isfinite(
                score[order]
            )
            chosen = jnp.zeros(t, bool).at[order].set(wanted)
            u, word = jax.random.uniform(k_how, (t,)), jax.random.randint(k_word, (t,), 0, self.vocab_size)
            corrupted = jnp.where(u < MASKED, self.mask_id, jnp.where(u < MASKED + REPLACED, word, tokens))
            at = jnp.arange(t) if self.all_positions else order[: num_predictions(t, mask_rate=self.mask_rate)]
            asked = real[at] if self.all_positions else chosen[at]
            return jnp.where(chosen, corrupted, tokens), at, asked, chosen[at], tokens[at]

        tokens, at, asked, weights, labels = jax.vmap(of_row)(keys, rows.tokens, real)
        return Batch(
            row_ids=rows.row_ids,
            epochs=rows.epochs,
            tokens=tokens,
            segment_ids=rows.segment_ids,
            positions=compute_positions(rows.segment_ids),
            token_types=jnp.zeros_like(tokens),
            predict_positions=at,
            prediction_weights=asked.astype(jnp.float32),
            label_weights=weights.astype(jnp.float32),
            labels=labels,
        )


def compute_positions(segments: Int[Array, "b t"]) -> Int[Array, "b t"]:
    """Each token's place in its own document."""
    at = jnp.broadcast_to(jnp.arange(segments.shape[1])[None], segments.shape)
    starts = jnp.diff(segments, axis=1, prepend=-1) != 0
    return at - jax.lax.cummax(jnp.where(starts, at, 0), axis=1)
