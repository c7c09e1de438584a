"""The encoder of every model: the Transformer of BERT (Devlin et al., 2018), which DistilBERT and MiniLM share.

An embedding layer is followed by `num_layers` blocks of self-attention and an MLP, each with a LayerNorm after the
residual connection (post-norm). A head from `heads/` computes logits from the hidden states.

The attributes and the `name=` strings of the modules are the paths of the parameters, such as
"encoder/layer_0/query/kernel". Checkpoints and the tables in `families/` depend on them.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float

from distilbert_jax.models.attention import AttentionKernel, attend, segment_mask
from distilbert_jax.models.dropout import apply_dropout, fold_keys
from distilbert_jax.models.matmul import matmul
from distilbert_jax.types import Batch, FactoredLogits, ModelOutputs, RowKeys

WEIGHT_INIT = nn.initializers.normal(0.02)

# A config.json comes from outside, and a model of absurd size would use up all memory.
MAX_LAYERS, MAX_SIZE = 256, 2**24

DENSE_CHECKPOINT_NAME = "dense"
"""The name by which `jax.checkpoint` keeps the outputs of dense layers for the backward pass."""

Remat = Literal["none", "attention", "layers"]
"""What the backward pass recomputes to save memory; see `BLOCK_CLASSES`."""

# Numbers of the dropout sites. They are part of the random key of each mask, so no two may be equal. The number of the
# layer is folded into the key before the site, and attention probabilities have site 0.
ATTENTION_OUTPUT_SITE, MLP_SITE, EMBEDDINGS_SITE = 1, 2, 1_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """The sizes of an encoder, its dropout rates, and how it computes. The defaults are the sizes of BERT base.

    Parameters are float32 for every `dtype`.

    Raises:
        ValueError: a field is out of its range, or `hidden_size` is not a multiple of `num_heads`.
    """

    vocab_size: int
    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12  # attention heads of a layer
    mlp_size: int = 3072  # size of the MLP's hidden layer
    max_positions: int = 512  # length of the longest document, in tokens
    num_token_types: int = 0  # 2 for BERT; 0 if the model has no token type embeddings
    norm_eps: float = 1e-12  # added to the variance in each LayerNorm
    activation: Literal["gelu", "gelu_tanh"] = "gelu"  # exact GELU, or its tanh approximation
    dropout: float = 0.0  # rate on the embeddings and on the MLP's output
    attention_dropout: float = 0.0  # rate on the attention probabilities
    attention_output_dropout: float = 0.0  # rate on the attention's output; BERT has it, DistilBERT does not
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"  # of hidden states and of operands of products
    remat: Remat = "none"
    attention: AttentionKernel = "xla"

    def __post_init__(self) -> None:
        """Checks every field, because most of them are read from a config.json."""
        for name in ("vocab_size", "hidden_size", "num_layers", "num_heads", "mlp_size", "max_positions"):
            value, limit = getattr(self, name), MAX_LAYERS if name == "num_layers" else MAX_SIZE
            # `type(…) is` and not isinstance: True is an int, too.
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be a positive whole number, not {value!r}")
            if value > limit:
                raise ValueError(f"{name} must be at most {limit:,}, not {value:,}")
        if type(self.num_token_types) is not int or not 0 <= self.num_token_types <= MAX_SIZE:
            raise ValueError(
                f"num_token_types must be a whole number from 0 to {MAX_SIZE:,}, not {self.num_token_types!r}"
            )
        for name in ("dropout", "attention_dropout", "attention_output_dropout"):
            _check_rate(getattr(self, name), name)
        if type(self.norm_eps) not in (int, float) or not 0 < self.norm_eps < 1:
            raise ValueError(f"norm_eps must be a number between 0 and 1, not {self.norm_eps!r}")
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size must be a multiple of num_heads, but hidden_size is {self.hidden_size} and num_heads is "
                f"{self.num_heads}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """The settings of a task's head, apart from the sizes of the encoder.

    Raises:
        ValueError: `dropout` is not a rate, or `problem_type` is not a text.
    """

    labels: tuple[str, ...] = ()  # names of the classes or tags; the position is the number of the label
    problem_type: str | None = None  # of a sequence classification, as config.json names it
    pooler_activation: Literal["tanh", "relu"] = "relu"  # after the dense layer on [CLS]; BERT has tanh
    dropout: float = 0.0  # rate on the input of the output layer

    def __post_init__(self) -> None:
        """Checks the fields that are read from a config.json."""
        _check_rate(self.dropout, "dropout before the output layer")
        if not isinstance(self.problem_type, str | None):
            raise ValueError(f"problem_type must be text, not {self.problem_type!r}")


def _check_rate(value: float, name: str) -> None:
    """Raises ValueError unless `value` is a dropout rate: at least 0 and less than 1."""
    if type(value) not in (int, float) or not 0 <= value < 1:
        raise ValueError(f"{name} must be a number from 0 to below 1, not {value!r}")


def layer_norm(config: TransformerConfig, *, name: str | None = None) -> nn.LayerNorm:
    """Returns a LayerNorm of this name."""
    # Flax's default variance, E[x²] − E[x]², is inexact: off by 4e-5 if the mean is ten standard deviations.
    return nn.LayerNorm(epsilon=config.norm_eps, dtype=config.dtype, use_fast_variance=False, name=name)


def dense(
    config: TransformerConfig, features: int | tuple[int, ...], *, axis: int | tuple[int, ...] = -1, name: str
) -> Callable[[Float[Array, "..."]], Float[Array, "..."]]:
    """Returns a dense layer of this name, x W + b.

    Operands of the product are rounded to `config.dtype`, the sums and the bias are float32, and the result is rounded
    again.

    Args:
        config: the encoder's config.
        features: the size of the output, or its sizes if there are several axes.
        axis: the axis or axes of the input that the product contracts.
        name: the name of the layer, a part of its parameters' path.
    """

    def dot_general(x: Array, kernel: Array, dimension_numbers: Any, precision: Any = None) -> Array:
        """Returns the product of the last axes of `x` and the first ones of `kernel`, as Flax asks for it."""
        # The operands become matrices first. With more axes, XLA on a CPU copies the operands of the gradients into
        # another order, which costs 10 % of the student's time.
        contracted = len(dimension_numbers[0][0])
        kept, size = x.shape[: x.ndim - contracted], math.prod(kernel.shape[:contracted])
        y = matmul(x.reshape(-1, size), kernel.reshape(size, -1), config.dtype)
        return y.reshape(*kept, *kernel.shape[contracted:])

    layer = nn.DenseGeneral(
        features, axis=axis, dtype=jnp.float32, kernel_init=WEIGHT_INIT, dot_general=dot_general, name=name
    )
    return lambda x: checkpoint_name(layer(x).astype(config.dtype), DENSE_CHECKPOINT_NAME)


def apply_activation(config: TransformerConfig, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns GELU of `x`, exact or approximated by tanh."""
    return nn.gelu(x, approximate=config.activation == "gelu_tanh")


class Block(nn.Module):
    """One layer of the encoder: self-attention and an MLP, each with a residual connection and a LayerNorm after it."""

    config: TransformerConfig

    @nn.compact
    def __call__(self, x: Float[Array, "b t d"], attention_mask: Bool[Array, "b t t"], keys: RowKeys | None):
        """Returns the layer's output, [b, t, d], and its (q, k, v), each [b, t, h, k]."""
        config = self.config
        heads = (config.num_heads, config.hidden_size // config.num_heads)
        q, k, v = (dense(config, heads, name=name)(x) for name in ("query", "key", "value"))
        y = attend(q, k, v, attention_mask, keys=keys, dropout=config.attention_dropout, kernel=config.attention)
        y = dense(config, config.hidden_size, axis=(-2, -1), name="out")(y)
        x = layer_norm(config, name="attention_norm")(
            x + apply_dropout(y, keys, rate=config.attention_output_dropout, site=ATTENTION_OUTPUT_SITE)
        )

        y = apply_activation(config, dense(config, config.mlp_size, name="up")(x))
        y = dense(config, config.hidden_size, name="down")(y)
        x = layer_norm(config, name="mlp_norm")(x + apply_dropout(y, keys, rate=config.dropout, site=MLP_SITE))
        return x, (q, k, v)


BLOCK_CLASSES: dict[Remat, Any] = {
    "none": nn.jit(Block),
    "attention": nn.jit(nn.remat(Block, policy=jax.checkpoint_policies.save_only_these_names(DENSE_CHECKPOINT_NAME))),
    "layers": nn.jit(nn.remat(Block)),
}
"""The class of the layers for each value of `TransformerConfig.remat`. It decides what the forward pass keeps for the
backward pass, which recomputes the rest (Chen et al., 2016).

    none         keeps everything
    attention    keeps the outputs of dense layers; recomputes attention, [b, h, t, t], and elementwise operations
    layers       keeps the input of each layer only

`nn.jit` traces a layer once and uses the trace for all layers.
"""


class Transformer(nn.Module):
    """The encoder: from a batch to the hidden states, queries, keys and values of every layer.

    Dropout is applied if the call gets `keys`, one for each row. Without them, the model is in evaluation mode.
    """

    config: TransformerConfig

    def setup(self):
        """Creates the embeddings and the layers."""
        config = self.config

        def embed(num_embeddings: int) -> nn.Embed:
            return nn.Embed(num_embeddings, config.hidden_size, dtype=jnp.float32, embedding_init=WEIGHT_INIT)

        self.words, self.positions = embed(config.vocab_size), embed(config.max_positions)
        if config.num_token_types:
            self.token_types = embed(config.num_token_types)
        self.norm = layer_norm(config)
        self.layers = [BLOCK_CLASSES[config.remat](config, name=f"layer_{i}") for i in range(config.num_layers)]

    def __call__(self, batch: Batch, *, keys: RowKeys | None = None) -> ModelOutputs:
        """Returns the outputs of the encoder. Their `logits` are None, since a head computes them."""
        config = self.config
        x = self.words(batch.tokens) + self.positions(batch.positions)
        if config.num_token_types:
            x = x + self.token_types(batch.token_types)
        x = apply_dropout(self.norm(x), keys, rate=config.dropout, site=EMBEDDINGS_SITE)

        attention_mask = segment_mask(batch.segment_ids)
        hidden_states, projections = [x], []
        for i, layer in enumerate(self.layers):
            x, qkv = layer(x, attention_mask, fold_keys(keys, i))
            hidden_states.append(x)
            projections.append(qkv)
        q, k, v = zip(*projections, strict=True)
        return ModelOutputs(
            batch=batch,
            logits=None,
            hidden_states=tuple(hidden_states),
            q=q,
            k=k,
            v=v,
            attention_mask=attention_mask,
        )

    def vocabulary_logits(self, x: Float[Array, "b p d"], bias: Float[Array, " v"]) -> FactoredLogits:
        """Returns x · embeddingᵀ + bias, the logits over the vocabulary, as factors.

        The embedding is the one that embeds the input tokens: the weights are tied. It stays in float32, so that its
        gradient is summed in float32.
        """
        return FactoredLogits(features=x, embedding=jnp.asarray(self.words.embedding), bias=bias)
