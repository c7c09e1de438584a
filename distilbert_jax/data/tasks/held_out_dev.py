"""Holds a tenth of the training examples out as a dev split, for tasks that were released with train and test only."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

ReadSplit = Callable[[str], Sequence[Any]]
"""(name of a split) -> its examples."""

HELD_OUT_SHARE = 0.1


def hold_out_dev(read: ReadSplit) -> ReadSplit:
    """Returns a reader whose "dev" is a tenth of what `read` returns for "train", and whose "train" is the rest.

    A test split must not choose the best epoch. The texts with the smallest hashes are held out, so the choice does not
    depend on the order of the examples or on the source they come from, and equal texts are never in both splits.
    """

    def read_split(split: str) -> Sequence[Any]:
        """Returns the examples of a split. Raises ValueError if there are too few to hold some out."""
        if split not in ("train", "dev"):
            return read(split)
        examples = read("train")
        keys = [hashlib.sha256("\0".join(example.texts).encode()).digest() for example in examples]
        last_key = sorted(keys)[max(1, round(HELD_OUT_SHARE * len(keys))) - 1]
        held_out = [example for example, key in zip(examples, keys, strict=True) if key <= last_key]
        rest = [example for example, key in zip(examples, keys, strict=True) if key > last_key]
        if not rest:
            raise ValueError(
                f"a tenth of the training examples is held out to choose the best epoch, but none of the "
                f"{len(examples)} examples would remain to train on; add examples with other texts"
            )
        return held_out if split == "dev" else rest

    return read_split
