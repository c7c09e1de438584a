"""Precision, recall and F1 over named entities, as CoNLL's script counts them (Tjong Kim Sang and De Meulder, 2003)."""

from collections.abc import Sequence

import numpy as np

from distilbert_jax.data.tasks.examples import TaggedSentence


def list_labels(sentences: Sequence[TaggedSentence]) -> tuple[str, ...]:
    """Returns O, then B-TYPE and I-TYPE of each entity type, including tags that these sentences do not contain."""
    types = sorted({tag[2:] for sentence in sentences for tag in sentence.tags if tag != "O"})
    return ("O", *(f"{prefix}-{entity_type}" for entity_type in types for prefix in ("B", "I")))


def per_example(sentences: Sequence[TaggedSentence], predictions: Sequence[Sequence[str]]) -> np.ndarray:
    """Counts the entities of each sentence.

    Args:
        sentences: the sentences with their annotated tags.
        predictions: the predicted tags, one for each word.

    Returns:
        [sentences, 3]: the entities that are correct, predicted and annotated.

    Raises:
        ValueError: a sentence has more or fewer predicted tags than words.
    """
    counts = []
    for number, (sentence, tags) in enumerate(zip(sentences, predictions, strict=True), 1):
        if len(sentence.tags) != len(tags):
            raise ValueError(
                f"sentence {number} has {len(sentence.tags)} words, but {len(tags)} tags are predicted; one tag for "
                "each word is needed"
            )
        expected, actual = find_entities(sentence.tags), find_entities(tags)
        counts.append((len(expected & actual), len(actual), len(expected)))
    return np.array(counts, float)


def find_entities(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """Returns (type, first word, last word + 1) of each entity.

    As in CoNLL's script, an I- tag after O or after another type also begins an entity.
    """
    entities = set()
    start = None
    # The O at the end closes an entity that reaches the last word.
    for i, tag in enumerate([*tags, "O"]):
        begins = tag != "O" and (tag[0] == "B" or i == 0 or tags[i - 1] == "O" or tags[i - 1][2:] != tag[2:])
        if start is not None and (tag == "O" or begins):
            entities.add((tags[start][2:], start, i))
            start = None
        if begins:
            start = i
    return entities


def compute_metrics(counts: np.ndarray) -> dict[str, float]:
    """Returns precision, recall and F1 over entities in per cent; 0 where there is nothing to count.

    Args:
        counts: what `per_example` returned, [sentences, 3].
    """
    correct, predicted, annotated = counts.sum(axis=0).tolist()

    def percent(total: float) -> float:
        return 100 * correct / total if total else 0.0

    return {
        "precision": percent(predicted),
        "recall": percent(annotated),
        "f1": percent((predicted + annotated) / 2),
    }
