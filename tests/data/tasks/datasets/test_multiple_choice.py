"""SWAG, CODAH and PIQA as they were released."""

import collections

import pytest

from distilbert_jax.data.tasks.datasets import multiple_choice
from tests.conftest import shared


def test_swag():
    question = multiple_choice.read_swag(shared("data/rows/swag/regular/train.csv"))[0]
    assert question.first.startswith("Members of the procession")
    assert question.choices[0] == "A drum line passes by walking down the street playing their instruments."
    assert question.label == 0
    assert {q.label for q in multiple_choice.read_swag(shared("data/rows/swag/regular/test.csv"))} == {None}


def test_codah():
    questions = multiple_choice.read_codah(shared("data/tasks/codah/full_data.tsv"))
    assert len(questions) == 2_776
    assert questions[0].first == "I am always very hungry before I go to bed. I am"
    assert questions[0].choices[questions[0].label] == "tempted to snack when I feel this way."
    assert collections.Counter(q.label for q in questions).keys() == {0, 1, 2, 3}
    folds = [
        multiple_choice.read_codah(shared(f"data/tasks/codah/cv_split/fold_0/{name}.tsv"))
        for name in ("train", "dev", "test")
    ]
    assert sum(map(len, folds)) == 2_776


def test_piqa():
    questions = multiple_choice.read_piqa(shared("data/tasks/piqa/valid.jsonl"))
    assert len(questions) == 1_838
    assert {q.label for q in questions} == {0, 1}
    assert {len(q.choices) for q in questions} == {2}


BAD = {
    "a label too many": (
        multiple_choice.read_codah,
        "o\tp\ta\tb\tc\td\t4\n",
        "line 1: the label '4' is not one of 0, 1, 2, 3",
    ),
    "a column too few": (multiple_choice.read_codah, "o\tp\ta\tb\tc\t4\n", "line 1: 6 columns, but 7 are needed"),
    "empty": (multiple_choice.read_codah, "\n", "the file has no questions"),
    "empty csv": (multiple_choice.read_swag, "", "there is no column 'sent1'"),
    "another csv": (multiple_choice.read_swag, "sent1,sent2\na,b\n", "there is no column 'ending0'"),
    "not JSON": (multiple_choice.read_piqa, "goal\n", "line 1: not a question of PIQA"),
    "a key too few": (
        multiple_choice.read_piqa,
        '{"goal": "g", "sol1": "a"}\n',
        "not a question of PIQA: it has no field 'sol2'",
    ),
    "empty jsonl": (multiple_choice.read_piqa, "", "the file has no questions"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(tmp_path, name):
    read, text, message = BAD[name]
    (tmp_path / "data").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path / "data")
    assert str(tmp_path) in str(caught.value)


def test_labels_that_do_not_fit_their_questions(tmp_path):
    (tmp_path / "valid.jsonl").write_text('{"goal": "g", "sol1": "a", "sol2": "b"}\n')
    (tmp_path / "valid-labels.lst").write_text("0\n1\n")
    with pytest.raises(ValueError, match=r"valid-labels.lst has 2 labels, but valid.jsonl has 1 questions"):
        multiple_choice.read_piqa(tmp_path / "valid.jsonl")
