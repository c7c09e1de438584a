"""Masked words, drawn inside jit from the row's own key (Devlin et al., 2018; rare words more often as in Lample and
Conneau, 2019).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from distilbert_jax.types import Batch, RowKeys, Rows

MASKED, REPLACED = 0.8, 0.1  # the other tenth keeps its word, and is asked all the same


def log_preference(counts: Float[Array, " v"], special: Array, *, smoothing: float) -> Float[Array, " v"]:
    """How willingly each word is chosen: max(count, 1)^−smoothing, never a special token. 0 chooses uniformly."""
    return (-smoothing * jnp.log(jnp.maximum(counts, 1.0))).at[special].set(-jnp.inf)


def places(tokens: Any, *, share: float, everywhere: bool = False) -> Any:
    """How many of `tokens` are asked: ceil(share · tokens), in integers: in floats, 0.15 · 20 is more than 3."""
    return tokens if everywhere else (round(share * 1_000) * tokens + 999) // 1_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedWords:
    """Asks for ceil(`share` · real tokens) words of each row, drawn without replacement.

    Per row, [CLS] and [SEP] counted; the original drew that share of a whole batch, so its rows differ in number. Fewer
    where a row has fewer words that may be chosen. `everywhere` asks at every real token (for soft targets on all of
    them): p = t, else p = ceil(`share` · t).
    """

    mask_id: int
    words: int  # random words are drawn below this id
    share: float = 0.15
    everywhere: bool = False

    def __call__(self, keys: RowKeys, rows: Rows, preference: Float[Array, " v"]) -> Batch:
        """`preference` is `log_preference` of the corpus."""
        t = rows.tokens.shape[1]
        real = rows.segments > 0

        def of_row(key, tokens, real):
            k_where, k_how, k_word = jax.random.split(key, 3)
            score = jnp.where(real, preference[tokens], -jnp.inf) + jax.random.gumbel(
                k_where, (t,)
            )  # Gumbel top-k: without replacement
            order = jnp.argsort(-score)
            wanted = (jnp.arange(t) < places(real.sum(), share=self.share)) & jnp.isfinite(score[order])
            chosen = jnp.zeros(t, bool).at[order].set(wanted)
            u, word = jax.random.uniform(k_how, (t,)), jax.random.randint(k_word, (t,), 0, self.words)
            corrupted = jnp.where(u < MASKED, self.mask_id, jnp.where(u < MASKED + REPLACED, word, tokens))
            at = jnp.arange(t) if self.everywhere else order[: places(t, share=self.share)]
            asked = real[at] if self.everywhere else chosen[at]
            return jnp.where(chosen, corrupted, tokens), at, asked, chosen[at], tokens[at]

        tokens, at, asked, weights, labels = jax.vmap(of_row)(keys, rows.tokens, real)
        return Batch(
            rows=rows.rows,
            epochs=rows.epochs,
            tokens=tokens,
            segments=rows.segments,
            positions=positions(rows.segments),
            token_types=jnp.zeros_like(tokens),
            predict_at=at,
            asked=asked.astype(jnp.float32),
            weights=weights.astype(jnp.float32),
            labels=labels,
        )


def positions(segments: Int[Array, "b t"]) -> Int[Array, "b t"]:
    """Each token's place in its own document."""
    at = jnp.broadcast_to(jnp.arange(segments.shape[1])[None], segments.shape)
    starts = jnp.diff(segments, axis=1, prepend=-1) != 0
    return at - jax.lax.cummax(jnp.where(starts, at, 0), axis=1)
