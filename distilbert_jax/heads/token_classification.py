"""The head of tagging, such as named entity recognition: a class for each token."""

import dataclasses

import flax.linen as nn

from distilbert_jax.heads.common import output_logits
from distilbert_jax.models.transformer import HeadConfig, Transformer, TransformerConfig
from distilbert_jax.types import Batch, ModelOutputs, RowKeys


class TokenClassification(nn.Module):
    """The encoder with logits [b, p, v] for v tags of each token at `batch.predict_positions`."""

    config: TransformerConfig
    head: HeadConfig

    @nn.compact
    def __call__(self, batch: Batch, *, keys: RowKeys | None = None) -> ModelOutputs:
        """Returns the outputs of the model. Dropout is applied if `keys` are given, one for each row."""
        outputs = Transformer(self.config, name="encoder")(batch, keys=keys)
        logits = output_logits(
            self.config, self.head, outputs.hidden_at_predictions, num_outputs=len(self.head.labels), keys=keys
        )
        return dataclasses.replace(outputs, logits=logits)
