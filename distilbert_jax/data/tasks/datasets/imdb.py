"""IMDb film reviews (Maas et al., 2011), from the folder aclImdb: a review a file, in pos/, neg/ and, unlabelled,
unsup/.
"""

import pathlib

from distilbert_jax.data.tasks import metrics
from distilbert_jax.data.tasks.examples import Example
from distilbert_jax.data.tasks.task_types.classification import Classification
from distilbert_jax.io import untrusted

TASK_TYPE = Classification(labels=("neg", "pos"), metrics=(metrics.accuracy,), main_metric="accuracy")


def read(folder: pathlib.Path, split: str) -> list[Example]:
    """The reviews of "train" or "test", or those without a label, "unsup"; as they are, <br /> marks included.

    Raises ValueError where the folder has no such reviews.
    """
    kinds: dict[str, int | None] = {"unsup": None} if split == "unsup" else {"neg": 0, "pos": 1}
    base = folder / ("train" if split == "unsup" else split)
    paths = [(path, label) for kind, label in kinds.items() for path in sorted((base / kind).glob("*.txt"))]
    if not paths:
        raise ValueError(f"{base}: no {' or '.join(f'{kind}/*.txt' for kind in kinds)}: not the folder aclImdb")
    return [
        Example(id=f"{path.parent.name}/{path.stem}", texts=(untrusted.read_text(path),), label=label)
        for path, label in paths
    ]
