"""The head of masked language modeling, which BERT and DistilBERT are pretrained with (Devlin et al., 2018)."""

import dataclasses

import flax.linen as nn

from distilbert_jax.models.transformer import (
    HeadConfig,
    Transformer,
    TransformerConfig,
    apply_activation,
    dense,
    layer_norm,
)
from distilbert_jax.types import Batch, ModelOutputs, RowKeys


class MaskedLM(nn.Module):
    """The encoder with the masked LM head, which predicts the token at each of `batch.predict_positions`.

    The head transforms the last hidden state of these positions, and multiplies it by the word embeddings:

        x = LayerNorm(GELU(hidden W + b))
        logits = x · embeddingᵀ + bias

    The logits are [b, p, v] with n = p predictions and v tokens of the vocabulary. They are returned as
    `FactoredLogits`, because the product may be too large for memory.
    """

    config: TransformerConfig
    head: HeadConfig = HeadConfig()  # not used: this head has no settings

    @nn.compact
    def __call__(self, batch: Batch, *, keys: RowKeys | None = None) -> ModelOutputs:
        """Returns the outputs of the model.

        Args:
            batch: the input.
            keys: the random keys of the rows for dropout, or None in evaluation.
        """
        config = self.config
        encoder = Transformer(config, name="encoder")
        outputs = encoder(batch, keys=keys)
        x = apply_activation(config, dense(config, config.hidden_size, name="transform")(outputs.hidden_at_predictions))
        x = layer_norm(config, name="norm")(x)
        bias = self.param("bias", nn.initializers.zeros, (config.vocab_size,))
        return dataclasses.replace(outputs, logits=encoder.vocabulary_logits(x, bias))
