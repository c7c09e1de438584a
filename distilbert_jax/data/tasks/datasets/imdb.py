"""IMDb movie reviews (Maas et al., 2011): a reader for the folder aclImdb.

Each review is a file of its own in pos/, neg/ or, without a label, unsup/.
"""

import pathlib

from distilbert_jax.data.tasks import metrics
from distilbert_jax.data.tasks.examples import Example
from distilbert_jax.data.tasks.task_types.classification import Classification
from distilbert_jax.io import untrusted

TASK_TYPE = Classification(labels=("neg", "pos"), metrics=(metrics.accuracy,), main_metric="accuracy")


def read(folder: pathlib.Path, split: str) -> list[Example]:
    """Returns the reviews of a split, unchanged, including their <br /> tags.

    Args:
        folder: the folder aclImdb.
        split: "train", "test", or "unsup" for the reviews without a label.

    Raises:
        ValueError: the folder has no such reviews.
    """
    labels: dict[str, int | None] = {"unsup": None} if split == "unsup" else {"neg": 0, "pos": 1}
    split_folder = folder / ("train" if split == "unsup" else split)
    paths = [(path, label) for name, label in labels.items() for path in sorted((split_folder / name).glob("*.txt"))]
    if not paths:
        raise ValueError(
            f"{split_folder} has no {' or '.join(f'{name}/*.txt' for name in labels)}; name the folder aclImdb"
        )
    return [
        Example(
            id=f"{path.parent.name}/{path.stem}", texts=(untrusted.read_text(path),), label=label, location=str(path)
        )
        for path, label in paths
    ]
