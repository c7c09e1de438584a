"""Hard targets: cross entropy on the batch's own labels, the original words (Devlin et al., 2018)."""

import dataclasses

import optax

from distilbert_jax.losses.base import LogitLoss


@dataclasses.dataclass(frozen=True, kw_only=True)
class HardTargets(LogitLoss):
    """−log p_s[label] at T = 1, averaged over the labelled places: masked words, also where the word was kept or
    replaced at random. Labels may be probabilities, [b p v], made elsewhere: then −Σ_v p log p_s.
    """

    def weights(self, batch):
        return batch.label_weights

    def values_from_logits(self, z_s, z_t, labels):
        del z_t
        if labels.ndim == z_s.ndim:
            return optax.softmax_cross_entropy(z_s, labels)
        return optax.softmax_cross_entropy_with_integer_labels(z_s, labels)
