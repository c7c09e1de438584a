"""CoNLL's columns and entity F1."""

import numpy as np
import pytest

from distilbert_jax.data.tasks import entity_metrics
from distilbert_jax.data.tasks.datasets import ner
from distilbert_jax.data.tasks.examples import TaggedSentence
from tests.conftest import shared


@pytest.mark.parametrize(
    ("name", "size", "entities"),
    [
        ("wnut17train.conll", 3_394, 1_975),
        ("emerging.dev.conll", 1_009, 836),
        ("emerging.test.annotated", 1_287, 1_079),
    ],
)
def test_wnut17(name, size, entities):
    sentences = ner.read(shared(f"data/tasks/wnut17/{name}"))
    assert len(sentences) == size
    assert sum(tag.startswith("B-") for sentence in sentences for tag in sentence.tags) == entities
    assert len(entity_metrics.list_labels(sentences)) == 13
    assert (
        entity_metrics.compute_metrics(
            entity_metrics.per_example(sentences, [sentence.tags for sentence in sentences])
        )["f1"]
        == 100.0
    )


def test_conll2003_has_four_columns():
    sentences = ner.read(shared("data/rows/conll2003/conll2003/train.txt"))
    assert sentences[0].words[:3] == ("The", "European", "Commission")
    assert sentences[0].tags[:3] == ("O", "B-ORG", "I-ORG")


def file(tmp_path, text):
    path = tmp_path / "tags.conll"
    path.write_text(text)
    return path


def test_articles_and_blank_lines_end_sentences(tmp_path):
    text = "-DOCSTART- -X- O O\n\nBonn NNP I-NP B-LOC\n. . O O\n\n\nRain NN I-NP O\r\n"
    assert ner.read(file(tmp_path, text)) == [
        TaggedSentence(words=("Bonn", "."), tags=("B-LOC", "O")),
        TaggedSentence(words=("Rain",), tags=("O",)),
    ]


def test_sentences_without_tags(tmp_path):
    assert ner.read(file(tmp_path, "Bonn\nam\n\nRain\tO\n")) == [
        TaggedSentence(words=("Bonn", "am"), tags=()),
        TaggedSentence(words=("Rain",), tags=("O",)),
    ]


def test_other_spaces_are_part_of_a_word(tmp_path):
    text = "10\u00a0000 CD B-MISC\nred\u3000hill NNP B-LOC\n\u00a0 SP O\n\u2028 SP O\n\nBonn\u00a0\tO\n"
    assert ner.read(file(tmp_path, text)) == [
        TaggedSentence(words=("10\u00a0000", "red\u3000hill", "\u00a0", "\u2028"), tags=("B-MISC", "B-LOC", "O", "O")),
        TaggedSentence(words=("Bonn\u00a0",), tags=("O",)),
    ]


def test_sentences_know_their_first_line(tmp_path):
    sentences = ner.read(file(tmp_path, "-DOCSTART- O\n\nBonn O\nam O\n\n\nRain O"))
    assert [sentence.location.rpartition(", ")[2] for sentence in sentences] == ["line 3", "line 7"]


BAD = {
    "two separators": ("Rain NN\tB-NP O\n", "line 1: the tag 'B-NP O' has a space in it; separate all columns by tabs"),
    "no tag": ("Bonn\tO\nam\n", "line 2: 'am' does not have the same columns as the lines before"),
    "a tag too many": ("Bonn\nam\tO\n", r"line 2: 'am\\tO' does not have the same columns as the lines before"),
    "no word": ("Bonn\tO\n\tO\n", r"line 2: '\\tO' does not have the same columns as the lines before"),
    "another tag": ("Bonn LOC\n", "line 1: the tag 'LOC' is not O, B-TYPE or I-TYPE"),
    "empty": ("\n\n", "the file has no sentences"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(tmp_path, name):
    text, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        ner.read(file(tmp_path, text))


def entities(tags):
    """{(type, first, last)}, straight from the definition, where tags begin with B-."""
    actual, start = set(), None
    for i, tag in enumerate([*tags, "O"]):
        if start is not None and tag != f"I-{tags[start][2:]}":
            actual.add((tags[start][2:], start, i))
            start = None
        if tag.startswith("B-"):
            start = i
    return actual


@pytest.mark.parametrize("kind", ["random", "no entities predicted", "no entities annotated", "neither"])
def test_score_against_the_definition(kind):
    random = np.random.default_rng(0)

    def tags():
        """Random entities, each begun by B-."""
        made = []
        while len(made) < 12:
            entity = random.choice(["PER", "LOC"])
            made += ["O"] * random.integers(0, 3) + [f"B-{entity}"] + [f"I-{entity}"] * random.integers(0, 3)
        return tuple(made[:12])

    empty = ("O",) * 12
    expected = [empty if kind in ("no entities annotated", "neither") else tags() for _ in range(40)]
    actual = [
        empty if kind in ("no entities predicted", "neither") else (tags() if i % 2 else w)
        for i, w in enumerate(expected)
    ]
    got = entity_metrics.compute_metrics(
        entity_metrics.per_example([TaggedSentence(words=("w",) * 12, tags=w) for w in expected], actual)
    )
    a = {(i, *e) for i, w in enumerate(expected) for e in entities(w)}
    b = {(i, *e) for i, f in enumerate(actual) for e in entities(f)}
    precision, recall = (len(a & b) / len(x) if x else 0.0 for x in (b, a))
    assert got["precision"] == pytest.approx(100 * precision)
    assert got["recall"] == pytest.approx(100 * recall)
    assert got["f1"] == pytest.approx(200 * precision * recall / (precision + recall) if precision + recall else 0.0)


def test_any_tags_against_seqeval():
    """Compares tags in random order: I- after O, after another type and at the start."""
    metrics = pytest.importorskip("seqeval.metrics")
    random = np.random.default_rng(1)

    def tags():
        return random.choice(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"], 15).tolist()

    expected, actual = ([tags() for _ in range(200)] for _ in range(2))
    got = entity_metrics.compute_metrics(
        entity_metrics.per_example([TaggedSentence(words=("w",) * 15, tags=tuple(w)) for w in expected], actual)
    )
    for name in ("precision", "recall", "f1"):
        assert got[name] == pytest.approx(100 * getattr(metrics, f"{name}_score")(expected, actual), abs=1e-9)


def test_one_tag_a_word():
    sentence = TaggedSentence(words=("a", "b"), tags=("O", "O"))
    with pytest.raises(ValueError, match="sentence 1 has 2 words, but 1 tags are predicted"):
        entity_metrics.per_example([sentence], [["O"]])
