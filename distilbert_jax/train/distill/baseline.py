"""Compares a student with the simplest language model: one that predicts every token by its frequency."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from distilbert_jax import log_keys

MAX_STANDARD_ERRORS = 2
"""By how many standard errors the baseline has to be better than a student before the student is called useless."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnigramBaseline:
    """The cross entropy of predicting each masked token by the frequencies of tokens in the training rows.

    Attributes:
        entropy: the mean of −log p(token), in nats.
        variance: the variance of −log p(token).
    """

    entropy: float
    variance: float

    @classmethod
    def from_counts(cls, token_counts: np.ndarray, special_ids: Sequence[int]) -> "UnigramBaseline":
        """Returns the baseline of a corpus.

        Args:
            token_counts: [v], how often each token occurs in the training rows.
            special_ids: the tokens that are never masked, so that they are not predicted.
        """
        counts = token_counts.astype(np.float64)
        counts[list(special_ids)] = 0
        p = counts[counts > 0] / counts.sum()
        entropy = float(-(p * np.log(p)).sum())
        return cls(entropy=entropy, variance=float((p * np.log(p) ** 2).sum()) - entropy**2)

    def is_better_than(self, measurements: Mapping[str, float | int]) -> bool:
        """Returns whether the baseline is better than a student, by more than `MAX_STANDARD_ERRORS` of its own.

        Args:
            measurements: an evaluation of the student, by log key.
        """
        # The variance may be a little below 0 because of rounding, if all tokens are equally frequent.
        stderr = math.sqrt(max(0.0, self.variance) / measurements[log_keys.MASKED_TOKENS.name])
        cross_entropy = measurements[log_keys.CROSS_ENTROPY.name]
        return not cross_entropy <= self.entropy + MAX_STANDARD_ERRORS * stderr

    def explain_failure(self, measurements: Mapping[str, float | int]) -> str | None:
        """Returns a sentence about a student that is of no use, or None if it is better than the baseline."""
        if not self.is_better_than(measurements):
            return None
        perplexity = log_keys.format_perplexity(measurements[log_keys.PERPLEXITY.name])
        baseline = log_keys.format_perplexity(math.exp(self.entropy))
        return (
            f"The student's perplexity on held-out rows is {perplexity} (cross entropy "
            f"{measurements[log_keys.CROSS_ENTROPY.name]:.4g} nats per token), which is worse than that of predicting "
            f"every token by its frequency in the corpus, {baseline}."
        )
