"""What tasks are scored by, each between 0 and 1 or −1 and 1: scikit-learn's and SciPy's, with one rule for what they
leave open. Where a correlation is not defined, since one side never changes, it is 0.
"""

from collections.abc import Callable, Sequence

import numpy as np

METRIC_LABELS = (
    "accuracy",
    "f1",
    "macro_f1",
    "micro_f1",
    "matthews_correlation",
    "pearson_correlation",
    "spearman_correlation",
)
Numbers = Sequence[int | float] | np.ndarray
MetricFunction = Callable[[Numbers, Numbers], float]


def accuracy(labels: Numbers, predictions: Numbers) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, predictions))


def f1(labels: Numbers, predictions: Numbers) -> float:
    """Of class 1; 0 where it neither stands nor is predicted."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, zero_division=0.0))


def macro_f1(labels: Numbers, predictions: Numbers) -> float:
    """The mean of every class's F1; also of several classes at once."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, average="macro", zero_division=0.0))


def micro_f1(labels: Numbers, predictions: Numbers) -> float:
    """Of all yes and no of several classes at once."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, average="micro", zero_division=0.0))


def matthews_correlation(labels: Numbers, predictions: Numbers) -> float:
    if _undefined(labels, predictions):
        return 0.0
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels, predictions))


def pearson_correlation(labels: Numbers, predictions: Numbers) -> float:
    if _undefined(labels, predictions):
        return 0.0
    from scipy.stats import pearsonr

    return float(pearsonr(labels, predictions).statistic)


def spearman_correlation(labels: Numbers, predictions: Numbers) -> float:
    if _undefined(labels, predictions):
        return 0.0
    from scipy.stats import spearmanr

    return float(spearmanr(labels, predictions).statistic)


def _undefined(labels: Numbers, predictions: Numbers) -> bool:
    """Whether a correlation is: one side never changes."""
    return any(np.ptp(np.asarray(values, float)) == 0 for values in (labels, predictions))
