"""The metrics of classification and regression, as fractions: scikit-learn's and SciPy's.

Where labels or predictions are all equal, a correlation is not defined; it is 0 here.

scikit-learn and SciPy are imported when a metric is computed, because importing them takes seconds.
"""

from collections.abc import Callable, Sequence

import numpy as np

METRIC_NAMES = (
    "accuracy",
    "f1",
    "macro_f1",
    "micro_f1",
    "matthews_correlation",
    "pearson_correlation",
    "spearman_correlation",
)
"""The names of all functions in this module that compute a metric."""

Numbers = Sequence[int | float] | np.ndarray
MetricFunction = Callable[[Numbers, Numbers], float]
"""(labels, predictions) -> the metric."""


def accuracy(labels: Numbers, predictions: Numbers) -> float:
    """Returns the fraction of predictions that equal their label."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, predictions))


def f1(labels: Numbers, predictions: Numbers) -> float:
    """Returns the F1 of class 1; 0 if it is neither a label nor a prediction."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, zero_division=0.0))


def macro_f1(labels: Numbers, predictions: Numbers) -> float:
    """Returns the mean F1 of all classes. Takes class numbers, or [examples, classes] of 0 and 1 (multi-label)."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, average="macro", zero_division=0.0))


def micro_f1(labels: Numbers, predictions: Numbers) -> float:
    """Returns the F1 of all yes-or-no answers together. Takes [examples, classes] of 0 and 1 (multi-label)."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, average="micro", zero_division=0.0))


def matthews_correlation(labels: Numbers, predictions: Numbers) -> float:
    """Returns the Matthews correlation coefficient of two classes or more; 0 if it is not defined."""
    if _has_constant_side(labels, predictions):
        return 0.0
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels, predictions))


def pearson_correlation(labels: Numbers, predictions: Numbers) -> float:
    """Returns the Pearson correlation of numbers; 0 if it is not defined."""
    if _has_constant_side(labels, predictions):
        return 0.0
    from scipy.stats import pearsonr

    return float(pearsonr(labels, predictions).statistic)


def spearman_correlation(labels: Numbers, predictions: Numbers) -> float:
    """Returns the Spearman rank correlation of numbers; 0 if it is not defined."""
    if _has_constant_side(labels, predictions):
        return 0.0
    from scipy.stats import spearmanr

    return float(spearmanr(labels, predictions).statistic)


def _has_constant_side(labels: Numbers, predictions: Numbers) -> bool:
    """Returns True if all labels or all predictions are equal, so that a correlation is not defined."""
    return any(np.ptp(np.asarray(values, float)) == 0 for values in (labels, predictions))
