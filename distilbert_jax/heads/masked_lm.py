"""The masked-word head: a transform of the last hidden state, scored against the word embeddings (Devlin et al.,
2018).
"""

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
    """An encoder that answers which word stands at `batch.predict_positions`."""

    config: TransformerConfig
    head: HeadConfig = HeadConfig()  # it has nothing to say here

    @nn.compact
    def __call__(self, batch: Batch, *, keys: RowKeys | None = None) -> ModelOutputs:
        config = self.config
        encoder = Transformer(config, name="encoder")
        outputs = encoder(batch, keys=keys)
        x = apply_activation(config, dense(config, config.hidden_size, name="transform")(outputs.hidden_at_predictions))
        x = layer_norm(config, name="norm")(x)
        bias = self.param("bias", nn.initializers.zeros, (config.vocab_size,))
        return dataclasses.replace(outputs, logits=encoder.vocabulary_logits(x, bias))
