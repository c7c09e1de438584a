"""Containers that the packages share, and the letters of all shapes.

A *row* is one sequence of fixed length, in which one or more documents are packed. A *position* is a place in a row. A
*prediction* is an answer that the model must give. *Logits* are its raw output, before a softmax.

Every dimension has one letter, the same in annotations, in `einsum` and in comments:

    b  rows of a batch     d  hidden size       p  predictions of a row
    t  tokens of a row     f  MLP size          n  positions of a row whose hidden states a head reads
    l  layers              h  attention heads   v  possible answers to one prediction, such as the vocabulary
                           k  size of one head

In a shape, "b t" is an array with one value for each token of each row, and " b" is an array with one value for each
row. Field names are also paths in saved checkpoints, so a field of `TrainState` or `LossScale` keeps its name.
"""

from collections.abc import Callable
from typing import Any, Self

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

RowKeys = Key[Array, " b"]
"""One random key for each row. Dropout and masking depend on nothing else, so a row gets the same random numbers in any
batch, on any number of devices.
"""


@flax.struct.dataclass
class PackedRows:
    """Rows as the corpus stores them, before any token is masked.

    The random keys of a row are made from its `row_ids` and `epochs`.
    """

    row_ids: Int[Array, " b"]  # index of the row in the corpus
    epochs: Int[Array, " b"]  # number of the pass over the corpus, from 0
    tokens: Int[Array, "b t"]  # token ids
    segment_ids: Int[Array, "b t"]  # 1, 2, … for the documents packed in the row, 0 for padding


@flax.struct.dataclass
class Batch:
    """The input of a model, and the predictions that it must make.

    The head decides what n, p and v are:

        masked tokens        n = p positions, v = the vocabulary
        class of a text      n = p = 1, the [CLS] token; v classes
        tag of each token    n = p = t; v tags
        answer span          p = 2, its first and last token; v = t
        one of c choices     p = 1; n = v = c, the [CLS] token of each choice, which is a packed document of its own

    A batch has two weights for each prediction. `prediction_weights` is 1 wherever the prediction is not padding, and
    `label_weights` only where there is also a label. Soft targets can therefore use every token while hard targets use
    the masked tokens of the same batch.
    """

    row_ids: Int[Array, " b"]  # as in PackedRows
    epochs: Int[Array, " b"]  # as in PackedRows
    tokens: Int[Array, "b t"]  # token ids, some of them [MASK]
    segment_ids: Int[Array, "b t"]  # 1, 2, … for the documents packed in the row, 0 for padding
    positions: Int[Array, "b t"]  # position within the document, from 0
    token_types: Int[Array, "b t"]  # 0 or 1 for the first or second text of a pair
    predict_positions: Int[Array, "b n"]  # positions in the row whose hidden states the head reads
    prediction_weights: Float[Array, "b p"]  # 1 for a prediction, 0 for padding
    label_weights: Float[Array, "b p"]  # 1 for a prediction with a label, else 0
    labels: Int[Array, "b p"] | Float[Array, "b p"] | Float[Array, "b p v"]  # one class, a number, or several classes
    allowed_answers: Bool[Array, "b p v"] | None = None  # the answers that the task allows; None if it allows all

    @classmethod
    def from_tokens(
        cls,
        tokens: Int[Array, "b t"],
        *,
        segment_ids: Int[Array, "b t"] | None = None,
        positions: Int[Array, "b t"] | None = None,
        predict_positions: Int[Array, "b n"] | None = None,
    ) -> Self:
        """Returns a batch for inference, with labels and token types of 0.

        Args:
            tokens: the token ids, [b, t].
            segment_ids: [b, t], 0 for padding. If it is None, every row is one document without padding.
            positions: [b, t], within the document. If it is None, they are 0 to t - 1 in every row.
            predict_positions: [b, n], positions whose hidden states the head reads. If it is None, it reads the first
                token only, n = 1.
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
        """True for a token and False for padding."""
        return self.segment_ids > 0


@flax.struct.dataclass
class FactoredLogits:
    """Logits over the vocabulary as the factors of `features · embeddingᵀ + bias`.

    The product has b · p · v values, far more than its factors, so losses compute it block by block.
    """

    features: Float[Array, "b p d"]  # output of the head's last LayerNorm
    embedding: Float[Array, "v d"]  # the encoder's word embeddings, in float32 for every dtype of the features
    bias: Float[Array, " v"]  # output bias

    def to_dense(self) -> Float[Array, "b p v"]:
        """Returns the logits in float32.

        The embedding is rounded to the dtype of the features, and the product is accumulated in float32.
        """
        return _multiply_transposed(self.features, self.embedding) + self.bias[None, None]


@jax.custom_vjp
def _multiply_transposed(features: Float[Array, "b p d"], embedding: Float[Array, "v d"]) -> Float[Array, "b p v"]:
    """Returns features · embeddingᵀ in float32, for an embedding that is rounded to the dtype of the features.

    The gradient of the embedding is not rounded. JAX's own would be, to the dtype of the features, and the sum of the
    rounded gradients of many blocks would be inexact.
    """
    return _einsum_transposed(features, embedding.astype(features.dtype))


def _einsum_transposed(features: Array, embedding: Array) -> Array:
    """Returns features · embeddingᵀ, accumulated in float32."""
    return jnp.einsum("bpd,vd->bpv", features, embedding, preferred_element_type=jnp.float32)


def _multiply_transposed_forward(features: Array, embedding: Array) -> tuple[Array, tuple[Array, Array]]:
    """Returns the product, and the factors for the backward pass."""
    return _multiply_transposed(features, embedding), (features, embedding)


def _multiply_transposed_backward(factors: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    """Returns the gradients of both factors, each in the dtype of its factor."""
    features, embedding = factors
    rounded_embedding = embedding.astype(features.dtype)
    transpose_features = jax.linear_transpose(lambda x: _einsum_transposed(x, rounded_embedding), features)
    # The values of the features are the same in float32, but JAX then leaves the gradient in float32, too.
    exact_features, exact_embedding = features.astype(jnp.float32), embedding.astype(jnp.float32)
    transpose_embedding = jax.linear_transpose(lambda x: _einsum_transposed(exact_features, x), exact_embedding)
    return *transpose_features(cotangent), transpose_embedding(cotangent)[0].astype(embedding.dtype)


_multiply_transposed.defvjp(_multiply_transposed_forward, _multiply_transposed_backward)


@flax.struct.dataclass
class ModelOutputs:
    """Everything that a loss may read of a model's forward pass.

    `jit` removes what no loss reads, so an output costs nothing until a loss uses it.
    """

    batch: Batch  # the input
    logits: FactoredLogits | Float[Array, "b p v"] | None  # output of the head; None without a head
    hidden_states: tuple[Float[Array, "b t d"], ...]  # l + 1 entries: the embeddings, then the output of each layer
    q: tuple[Float[Array, "b t h k"], ...]  # l entries: the queries of each layer, before scaling
    k: tuple[Float[Array, "b t h k"], ...]  # l entries: the keys
    v: tuple[Float[Array, "b t h k"], ...]  # l entries: the values
    attention_mask: Bool[Array, "b t t"]  # True where a query (first t) may attend to a key (second t)

    @property
    def hidden_at_predictions(self) -> Float[Array, "b n d"]:
        """The hidden states of the last layer at `batch.predict_positions`."""
        return jnp.take_along_axis(self.hidden_states[-1], self.batch.predict_positions[..., None], axis=1)


Apply = Callable[..., ModelOutputs]
"""The forward pass of a model: `apply({"params": params}, batch, keys=keys)` returns `ModelOutputs`. Dropout is applied
if `keys` are given.
"""

Metrics = dict[str, Array]
"""Scalars by their log key."""


@flax.struct.dataclass
class LossScale:
    """The factor that losses are multiplied by in float16, so that small gradients do not become 0."""

    value: Float[Array, ""]
    steps_since_change: Int[Array, ""]  # steps since `value` last changed
    num_overflows: Int[Array, ""]  # steps skipped because `value` was too large


@flax.struct.dataclass
class TrainState:
    """The state of training, which a checkpoint saves.

    Teachers are not part of it, because training does not change them. They are an argument of the step.
    """

    step: Int[Array, ""]  # number of finished steps
    params: dict[str, Any]  # {"student": …, "losses": {name: …}}
    opt_state: Any  # state of the optimizer
    nonfinite_steps: Int[Array, ""]  # steps skipped because a loss, a metric or the gradient was not finite
    loss_scale: LossScale | None = None  # in float16 only
