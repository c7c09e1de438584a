"""The distillation loss: KL divergence between softened distributions (Hinton et al., 2015)."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from distilbert_jax.losses.base import LogitLoss


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoftTargets(LogitLoss):
    """The KL divergence from the teacher's to the student's softened distribution, averaged over predictions:

        T² · Σ_v p_t (log p_t − log p_s),    p = softmax(logits / T)

    The factor T² keeps the size of the gradient about the same for every temperature T.

    Attributes:
        temperature: T. A higher temperature gives unlikely answers more influence.
        positions: "all" averages over every token except padding, as DistilBERT was trained. "masked" averages over the
            masked tokens only. They are about 15 % of all tokens, so far fewer logits are computed. In fine-tuning,
            where nothing is masked, "all" averages over all predictions and "masked" over those with a label.
    """

    teacher: str | None = "teacher"
    temperature: float = 2.0
    positions: Literal["all", "masked"] = "all"

    @property
    def needs_all_positions(self):
        """Whether `positions` is "all"."""
        return self.positions == "all"

    def weights(self, batch):
        """Returns 1 for each prediction that `positions` selects, [b, p]."""
        return batch.prediction_weights if self.positions == "all" else batch.label_weights

    def values_from_logits(self, student_logits, teacher_logits, labels):
        """Returns T² · KL(p_t ‖ p_s) of each prediction, [b, p]."""
        del labels
        teacher_log_probs = jax.nn.log_softmax(teacher_logits / self.temperature)
        student_log_probs = jax.nn.log_softmax(student_logits / self.temperature)
        kl = jnp.sum(jnp.exp(teacher_log_probs) * (teacher_log_probs - student_log_probs), axis=-1)
        return kl * self.temperature**2
