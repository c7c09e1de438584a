"""SQuAD: the official metrics to the last digit, and errors in the files."""

import json

import pytest

from distilbert_jax.data.tasks import span_metrics
from distilbert_jax.data.tasks.datasets import squad
from tests.conftest import shared


def test_the_published_predictions_get_the_published_score():
    questions = squad.read(shared("data/tasks/squad/dev-v1.1.json"))
    predictions = json.loads(shared("data/tasks/squad/predictions_bert_ensemble.json").read_text())
    assert len(questions) == 10_570
    scores = span_metrics.compute_metrics(span_metrics.per_example(questions, predictions))
    assert {name: round(value, 3) for name, value in scores.items()} == {"exact_match": 86.206, "f1": 92.196}


@pytest.mark.parametrize("name", ["new_wiki_v1.0.json", "reddit_v1.0.json"])
def test_other_files_in_its_layout(name):
    questions = squad.read(shared(f"data/tasks/squad/{name}"))
    predictions = {q.id: next(filter(span_metrics.normalize, q.answers), "") for q in questions}
    have_words = [any(map(span_metrics.normalize, q.answers)) for q in questions]
    scores = span_metrics.compute_metrics(span_metrics.per_example(questions, predictions))
    assert scores == {"exact_match": 100.0, "f1": pytest.approx(100 * sum(have_words) / len(questions))}
    assert scores["f1"] > 99.9


def file(tmp_path, *questions, context="The cat sat on the mat."):
    path = tmp_path / "squad.json"
    path.write_text(json.dumps({"data": [{"paragraphs": [{"context": context, "qas": list(questions)}]}]}))
    return path


def question(id, *answers, impossible=False):
    context = "The cat sat on the mat."
    annotated = [{"text": text, "answer_start": context.find(text)} for text in answers]
    return {"id": id, "question": "Who sat?", "answers": annotated} | ({"is_impossible": True} if impossible else {})


def test_score_by_hand(tmp_path):
    questions = squad.read(file(tmp_path, question("1", "The cat", "cat sat"), question("2", "the mat")))
    scores = span_metrics.compute_metrics(span_metrics.per_example(questions, {"1": "a cat!", "2": "on the mat"}))
    assert scores["exact_match"] == 50.0  # articles and punctuation do not count
    assert scores["f1"] == pytest.approx(100 * (1 + 2 / 3) / 2)


def test_questions_without_an_answer(tmp_path):
    questions = squad.read(
        file(
            tmp_path,
            question("1", "The cat"),
            question("2", impossible=True),
            question("3", "the mat", impossible=True),
        )
    )
    assert [q.answers for q in questions] == [("The cat",), (), ()]  # v2.0 lists plausible answers, which are wrong
    scores = span_metrics.compute_metrics(
        span_metrics.per_example(questions, {"1": "", "2": "", "3": "mat"}, no_answer=True)
    )
    assert scores == {
        "exact_match": pytest.approx(100 / 3),
        "f1": pytest.approx(100 / 3),
        "has_answer_exact_match": 0.0,
        "has_answer_f1": 0.0,
        "no_answer_exact_match": 50.0,
        "no_answer_f1": 50.0,
    }


def test_a_question_without_the_key_answers_is_one_nobody_annotated(tmp_path):
    path = file(tmp_path, question("1", "cat"), question("2", impossible=True))
    text = json.loads(path.read_text())
    del text["data"][0]["paragraphs"][0]["qas"][0]["answers"]
    path.write_text(json.dumps(text))
    assert [(q.has_label, q.answers) for q in squad.read(path)] == [(False, ()), (True, ())]


def test_an_answer_that_is_an_article_does_not_count_if_there_is_another(tmp_path):
    questions = squad.read(file(tmp_path, question("1", "The", "The cat")))
    assert span_metrics.per_example(questions, {"1": "the"}, no_answer=True).tolist() == [[0.0, 0.0, 1.0]]
    assert span_metrics.per_example(questions, {"1": "the"}).tolist() == [[1.0, 0.0, 1.0]]  # v1.1: it shares no word


def test_a_question_without_a_prediction(tmp_path):
    questions = squad.read(file(tmp_path, question("1", "cat"), question("2", "mat")))
    with pytest.raises(ValueError, match="1 of 2 questions have no prediction, such as '2'"):
        span_metrics.compute_metrics(span_metrics.per_example(questions, {"1": "cat"}))


BAD = {
    "moved": (
        lambda text: text.replace('"answer_start": 4', '"answer_start": 5'),
        "'cat' is not at character 5",
    ),
    "not JSON": (lambda text: text[:40], "not a file in SQuAD's layout"),
    "another layout": (lambda text: text.replace("paragraphs", "rows"), "not a file in SQuAD's layout"),
    "a list": (lambda text: "[]", "not a file in SQuAD's layout"),
    "empty": (lambda text: '{"data": []}', "the file has no questions"),
    "twice": (lambda text: text.replace('"2"', '"1"'), "1 question ids occur more than once, such as '1'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(tmp_path, name):
    damage, message = BAD[name]
    path = file(tmp_path, question("1", "cat"), question("2", "mat"))
    path.write_text(damage(path.read_text()))
    with pytest.raises(ValueError, match=message) as caught:
        squad.read(path)
    assert str(path) in str(caught.value)
