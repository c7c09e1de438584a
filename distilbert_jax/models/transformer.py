"""The one encoder: a post-norm Transformer (Devlin et al., 2018) that BERT, DistilBERT and MiniLM share."""

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

INIT = nn.initializers.normal(0.02)
MAX_LAYERS, MAX_SIZE = 256, 2**24  # what a config.json can ask for
DENSE_CHECKPOINT_NAME = "dense"  # the name under which the results of dense layers may be kept for the backward pass
Remat = Literal["none", "attention", "layers"]
ATTENTION_OUTPUT_SITE, MLP_SITE, EMBEDDINGS_SITE = (
    1,
    2,
    1_000,
)  # dropout sites; attention has 0, layers are folded in before


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """A model's shape, its dropout, the type it computes in, and what is computed twice. Parameters are float32
    always.
    """

    vocab_size: int
    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    mlp_size: int = 3072
    max_positions: int = 512
    num_token_types: int = 0
    norm_eps: float = 1e-12
    activation: Literal["gelu", "gelu_tanh"] = "gelu"
    dropout: float = 0.0  # on the embeddings and the MLP's output
    attention_dropout: float = 0.0  # on the probabilities
    attention_output_dropout: float = 0.0  # on the attention's output: BERT has it, DistilBERT has not
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    remat: Remat = "none"  # what the backward pass computes anew, see LAYERS
    attention: AttentionKernel = "xla"

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "num_layers", "num_heads", "mlp_size", "max_positions"):
            value, most = getattr(self, name), MAX_LAYERS if name == "num_layers" else MAX_SIZE
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be a positive whole number, not {value!r}")
            if value > most:
                raise ValueError(f"{name} is {value:,}, and at most {most:,} can be built")
        if type(self.num_token_types) is not int or not 0 <= self.num_token_types <= MAX_SIZE:
            raise ValueError(f"num_token_types must be a whole number, not {self.num_token_types!r}")
        for name in ("dropout", "attention_dropout", "attention_output_dropout"):
            _demand_rate(getattr(self, name), name)
        if type(self.norm_eps) not in (int, float) or not 0 < self.norm_eps < 1:
            raise ValueError(f"norm_eps must be a number between 0 and 1, not {self.norm_eps!r}")
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} does not divide by num_heads {self.num_heads}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """What a task's head needs to know beside the encoder's shape."""

    labels: tuple[str, ...] = ()  # of classes or tags, by number
    problem_type: str | None = None  # of sequence classification, in the Hub's words
    pooler_activation: Literal["tanh", "relu"] = "relu"  # after the dense layer on [CLS]: BERT's pooler, DistilBERT's
    dropout: float = 0.0  # right before the output layer

    def __post_init__(self) -> None:
        _demand_rate(self.dropout, "dropout before the output layer")
        if not isinstance(self.problem_type, str | None):
            raise ValueError(f"problem_type must be text, not {self.problem_type!r}")


def _demand_rate(value: float, name: str) -> None:
    if type(value) not in (int, float) or not 0 <= value < 1:
        raise ValueError(f"{name} must be a number from 0 to below 1, not {value!r}")


def layer_norm(config: TransformerConfig, *, name: str | None = None) -> nn.LayerNorm:
    """Flax's default variance, E[x²] − E[x]², loses digits: 4e-5 off at a mean of ten standard deviations."""
    return nn.LayerNorm(epsilon=config.norm_eps, dtype=config.dtype, use_fast_variance=False, name=name)


def dense(
    config: TransformerConfig, features: int | tuple[int, ...], *, axis: int | tuple[int, ...] = -1, name: str
) -> Callable[[Float[Array, "..."]], Float[Array, "..."]]:
    """A dense layer of this name: the product in the computation's type, sum and bias in float32, then rounded."""

    def of_matrices(x: Array, kernel: Array, dimension_numbers: Any, precision: Any = None) -> Array:
        """What Flax calls: the last axes of `x` times the first of `kernel`. With the axes as they come, XLA on a CPU
        copies operands of the gradients into another order first: 10 % of the student's time.
        """
        contracted = len(dimension_numbers[0][0])
        kept, size = x.shape[: x.ndim - contracted], math.prod(kernel.shape[:contracted])
        y = matmul(x.reshape(-1, size), kernel.reshape(size, -1), config.dtype)
        return y.reshape(*kept, *kernel.shape[contracted:])

    layer = nn.DenseGeneral(
        features, axis=axis, dtype=jnp.float32, kernel_init=INIT, dot_general=of_matrices, name=name
    )
    return lambda x: checkpoint_name(layer(x).astype(config.dtype), DENSE_CHECKPOINT_NAME)


def apply_activation(config: TransformerConfig, x: Float[Array, "..."]) -> Float[Array, "..."]:
    return nn.gelu(x, approximate=config.activation == "gelu_tanh")


class Block(nn.Module):
    """Attention and MLP, each added to its input and normalised after."""

    config: TransformerConfig

    @nn.compact
    def __call__(self, x: Float[Array, "b t d"], sees: Bool[Array, "b t t"], keys: RowKeys | None):
        config = self.config
        heads = (config.num_heads, config.hidden_size // config.num_heads)
        q, k, v = (dense(config, heads, name=name)(x) for name in ("query", "key", "value"))
        y = attend(q, k, v, sees, keys=keys, dropout=config.attention_dropout, kernel=config.attention)
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
"""By what the backward pass computes anew instead of keeping it (Chen et al., 2016): nothing; all but what dense layers
gave, so attention's [b h t t] and whatever goes element by element; all but a layer's input. Each is traced once for
all layers.
"""


class Transformer(nn.Module):
    """A batch in; hidden states, queries, keys and values of every layer out. A head adds the scores.

    `keys` (one a row) turn dropout on; without them the model is in evaluation mode. There is no flag to forget.
    """

    config: TransformerConfig

    def setup(self):
        config = self.config
        embed = lambda n: nn.Embed(n, config.hidden_size, dtype=jnp.float32, embedding_init=INIT)
        self.words, self.positions = embed(config.vocab_size), embed(config.max_positions)
        if config.num_token_types:
            self.token_types = embed(config.num_token_types)
        self.norm = layer_norm(config)
        self.layers = [BLOCK_CLASSES[config.remat](config, name=f"layer_{i}") for i in range(config.num_layers)]

    def __call__(self, batch: Batch, *, keys: RowKeys | None = None) -> ModelOutputs:
        config = self.config
        x = self.words(batch.tokens) + self.positions(batch.positions)
        if config.num_token_types:
            x = x + self.token_types(batch.token_types)
        x = apply_dropout(self.norm(x), keys, rate=config.dropout, site=EMBEDDINGS_SITE)

        seen = segment_mask(batch.segment_ids)
        hidden, projections = [x], []
        for i, layer in enumerate(self.layers):
            x, qkv = layer(x, seen, fold_keys(keys, i))
            hidden.append(x)
            projections.append(qkv)
        q, k, v = zip(*projections, strict=True)
        return ModelOutputs(batch=batch, logits=None, hidden_states=tuple(hidden), q=q, k=k, v=v, attention_mask=seen)

    def vocabulary_logits(self, x: Float[Array, "b p d"], bias: Float[Array, " v"]) -> FactoredLogits:
        """Scores against the word embeddings, left factored."""
        return FactoredLogits(features=x, embedding=jnp.asarray(self.words.embedding, x.dtype), bias=bias)
