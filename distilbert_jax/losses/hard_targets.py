"""The ordinary training loss: cross entropy with the labels of the batch (Devlin et al., 2018)."""

import dataclasses

import optax

from distilbert_jax.losses.base import LogitLoss


@dataclasses.dataclass(frozen=True, kw_only=True)
class HardTargets(LogitLoss):
    """The cross entropy of the student's distribution with the labels, averaged over the labelled predictions:

        −log p_s[label],    p_s = softmax(student_logits)

    For a masked LM, the labels are the original tokens of the masked ones, including those where the token was
    kept or replaced by a random one. Labels may also be probabilities p, [b, p, v]; the loss is then −Σ_v p log p_s.
    """

    def weights(self, batch):
        """Returns 1 for each labelled prediction, [b, p]."""
        return batch.label_weights

    def values_from_logits(self, student_logits, teacher_logits, labels):
        """Returns the cross entropy of each prediction, [b, p]. `labels` are [b, p] or [b, p, v]."""
        del teacher_logits
        if labels.ndim == student_logits.ndim:
            return optax.softmax_cross_entropy(student_logits, labels)
        return optax.softmax_cross_entropy_with_integer_labels(student_logits, labels)
