"""Shared shapes and containers.

Dimension names used everywhere, in annotations, in `einsum` and in comments:

    b  rows          t  tokens        p  questions asked     n  places looked at
    d  hidden size   h  heads         k  head size           v  answers to choose from: words of the vocabulary
    f  MLP size      l  layers
"""

from collections.abc import Callable
from typing import Any, Self

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

RowKeys = Key[Array, " b"]
"""One random key a row: all that dropout and masking may depend on."""


@flax.struct.dataclass
class PackedRows:
    """Token rows as the corpus has them, before anything is asked."""

    row_ids: Int[Array, " b"]  # index in the corpus: with `epochs` it keys everything random about the row
    epochs: Int[Array, " b"]
    tokens: Int[Array, "b t"]
    segment_ids: Int[Array, "b t"]  # 0 = padding; packed documents 1, 2, …


@flax.struct.dataclass
class Batch:
    """Token rows, and what a model is asked about them.

    Masked words: n = p places, v words. A text's class: n = p = 1, [CLS]. Tags: n = p = t. A span: p = 2, v = t. One of
    c choices, each a packed document: n = v = c, p = 1.

    `asked` is 1 where a question is real (soft targets may use it), `weights` where it also has a label (hard targets
    use it): two masks, always, so that "soft on every token, hard on the masked ones" can be said.
    """

    row_ids: Int[Array, " b"]
    epochs: Int[Array, " b"]
    tokens: Int[Array, "b t"]
    segment_ids: Int[Array, "b t"]
    positions: Int[Array, "b t"]  # within the document
    token_types: Int[Array, "b t"]
    predict_positions: Int[Array, "b n"]
    prediction_weights: Float[Array, "b p"]
    label_weights: Float[Array, "b p"]
    labels: Int[Array, "b p"] | Float[Array, "b p"] | Float[Array, "b p v"]  # classes; numbers; several at once
    allowed_answers: Bool[Array, "b p v"] | None = None  # the answers a task permits, where it does not permit all

    @classmethod
    def from_tokens(
        cls,
        tokens: Int[Array, "b t"],
        *,
        segment_ids: Int[Array, "b t"] | None = None,
        positions: Int[Array, "b t"] | None = None,
        predict_positions: Int[Array, "b n"] | None = None,
    ) -> Self:
        """Returns a batch for inference: a forward pass without dropout, masks, labels or token types.

        Args:
            tokens: the token ids, [b, t].
            segment_ids: [b, t], 0 = padding. If it is None, every row is one document without padding.
            positions: [b, t], within the document. If it is None, 0 to t - 1 in every row.
            predict_positions: [b, n], where the model answers. If it is None, at the first token, n = 1.
        """
        rows, length = tokens.shape
        if positions is None:
            positions = jnp.broadcast_to(jnp.arange(length), (rows, length))
        if predict_positions is None:
            predict_positions = jnp.zeros((rows, 1), jnp.int32)
        ones = jnp.ones(predict_positions.shape)
        return cls(
            row_ids=jnp.zeros(rows, jnp.int32),
            epochs=jnp.zeros(rows, jnp.int32),
            tokens=tokens,
            segment_ids=jnp.ones_like(tokens) if segment_ids is None else segment_ids,
            positions=positions,
            token_types=jnp.zeros_like(tokens),
            predict_positions=predict_positions,
            prediction_weights=ones,
            label_weights=ones,
            labels=jnp.zeros(predict_positions.shape, jnp.int32),
        )

    @property
    def token_mask(self) -> Bool[Array, "b t"]:
        """Where a token stands, and not padding."""
        return self.segment_ids > 0


@flax.struct.dataclass
class FactoredLogits:
    """Scores over a vocabulary, before the one product that would make them large."""

    features: Float[Array, "b p d"]
    embedding: Float[Array, "v d"]
    bias: Float[Array, " v"]

    def to_dense(self) -> Float[Array, "b p v"]:
        """The scores themselves, accumulated in float32 whatever the type of the factors."""
        return (
            jnp.einsum("bpd,vd->bpv", self.features, self.embedding, preferred_element_type=jnp.float32)
            + self.bias[None, None]
        )


@flax.struct.dataclass
class ModelOutputs:
    """All a loss may look at, with the batch it answers. `jit` prunes what no loss reads, so nothing here costs
    anything until it is used.
    """

    batch: Batch
    logits: FactoredLogits | Float[Array, "b p v"] | None
    hidden_states: tuple[Float[Array, "b t d"], ...]  # l + 1 entries, embeddings first
    q: tuple[Float[Array, "b t h k"], ...]  # as they enter the dot product
    k: tuple[Float[Array, "b t h k"], ...]
    v: tuple[Float[Array, "b t h k"], ...]
    attention_mask: Bool[Array, "b t t"]  # who attends to whom

    @property
    def hidden_at_predictions(self) -> Float[Array, "b n d"]:
        """The last hidden state where something is asked."""
        return jnp.take_along_axis(self.hidden_states[-1], self.batch.predict_positions[..., None], axis=1)


Apply = Callable[..., ModelOutputs]
"""The forward pass of a model: apply({"params": params}, batch, keys=…) -> Outputs."""

Metrics = dict[str, Array]
"""Logged numbers by name."""


@flax.struct.dataclass
class LossScale:
    """What losses are multiplied by in float16, so that small gradients exist there."""

    value: Float[Array, ""]
    steps_since_change: Int[Array, ""]  # updates, since it last changed
    num_overflows: Int[Array, ""]  # updates left out because the scale was too large


@flax.struct.dataclass
class TrainState:
    """What a checkpoint holds. Teachers are no part of it: they are an argument of the step."""

    step: Int[Array, ""]
    params: dict[str, Any]  # {"student": …, "losses": {name: …}}
    opt_state: Any
    nonfinite_steps: Int[Array, ""]  # updates that were skipped because they were not finite
    loss_scale: LossScale | None = None  # in float16 only
