"""Scores over named entities, as CoNLL's script counts them (Tjong Kim Sang and De Meulder, 2003)."""

from collections.abc import Sequence

import numpy as np

from distilbert_jax.data.tasks.examples import TaggedSentence


def list_labels(sentences: Sequence[TaggedSentence]) -> tuple[str, ...]:
    """Every tag that may come: O, then B- and I- of each type, whether or not both stand in these sentences."""
    types = sorted({tag[2:] for sentence in sentences for tag in sentence.tags if tag != "O"})
    return ("O", *(f"{prefix}-{kind}" for kind in types for prefix in ("B", "I")))


def per_example(sentences: Sequence[TaggedSentence], predictions: Sequence[Sequence[str]]) -> np.ndarray:
    """[sentences, 3]: how many entities are found right, found, and there.

    Raises ValueError where a sentence has not one prediction a word.
    """
    counts = []
    for number, (sentence, tags) in enumerate(zip(sentences, predictions, strict=True), 1):
        if len(sentence.tags) != len(tags):
            raise ValueError(f"sentence {number} has {len(sentence.tags)} words, but {len(tags)} tags are predicted")
        wanted, found = find_entities(sentence.tags), find_entities(tags)
        counts.append((len(wanted & found), len(found), len(wanted)))
    return np.array(counts, float)


def find_entities(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """(type, first word, word after the last) of each, as CoNLL's script reads tags: I- after O or after another type
    begins an entity, too.
    """
    found = set()
    start = None
    for at, tag in enumerate([*tags, "O"]):
        begins = tag != "O" and (tag[0] == "B" or at == 0 or tags[at - 1] == "O" or tags[at - 1][2:] != tag[2:])
        if start is not None and (tag == "O" or begins):
            found.add((tags[start][2:], start, at))
            start = None
        if begins:
            start = at
    return found


def compute_metrics(units: np.ndarray) -> dict[str, float]:
    """Precision, recall and F1 over whole entities, in per cent. 0 where there is nothing to count."""
    right, found, there = units.sum(axis=0).tolist()
    share = lambda of: 100 * right / of if of else 0.0
    return {"precision": share(found), "recall": share(there), "f1": share((found + there) / 2)}
