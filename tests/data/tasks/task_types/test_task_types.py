"""The four task types: encoding of examples into rows, and decoding of logits into answers."""

import dataclasses
import json

import numpy as np
import pytest

from distilbert_jax.data.tasks import metrics, registry
from distilbert_jax.data.tasks.datasets import squad
from distilbert_jax.data.tasks.examples import ChoiceQuestion, Example, SpanQuestion, TaggedSentence
from distilbert_jax.data.tasks.task_types.base import TaskTokenizer, iter_windows
from distilbert_jax.data.tasks.task_types.choice_selection import ChoiceSelection
from distilbert_jax.data.tasks.task_types.classification import Classification
from distilbert_jax.data.tasks.task_types.span_extraction import MAX_ANSWER_TOKENS, PredictedSpan, SpanExtraction
from distilbert_jax.data.tasks.task_types.tagging import Tagging
from distilbert_jax.data.tokenizer import tokenizer as tokens
from tests.conftest import shared

TWO = Classification(labels=("no", "yes"), metrics=(metrics.accuracy,))


@pytest.fixture
def task_tokenizer(tokenizer):
    return TaskTokenizer(tokenizer=tokenizer, max_length=16)


def example(*texts, label=None):
    return Example(id="0", texts=texts, label=label)


def words(tokenizer, ids):
    return " ".join(tokenizer.backend.id_to_token(int(i)) for i in ids)


def test_a_pair_of_texts(task_tokenizer, tokenizer):
    (row,) = TWO.encode([example("the cat", "a dog runs", label=1)], task_tokenizer).rows
    assert words(tokenizer, row.tokens) == "[CLS] the cat [SEP] a dog runs [SEP]"
    assert row.token_types.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert (row.labels.tolist(), row.prediction_weights.tolist(), row.label_weights.tolist()) == ([1], [1.0], [1.0])


def test_a_text_without_a_label_still_has_a_prediction(task_tokenizer):
    (row,) = TWO.encode([example("the cat")], task_tokenizer).rows
    assert (row.prediction_weights.tolist(), row.label_weights.tolist()) == ([1.0], [0.0])


@pytest.mark.parametrize(
    "lengths, kept", [((20, 3), (10, 3)), ((3, 20), (3, 10)), ((20, 20), (6, 7)), ((5, 4), (5, 4))]
)
def test_the_longest_is_cut_first(task_tokenizer, lengths, kept):
    parts = [np.arange(length) for length in lengths]
    assert tuple(map(len, task_tokenizer.truncate(parts))) == kept


def test_cut_tokens_are_counted(task_tokenizer):
    encoded = TWO.encode([example("a " * 20, label=0), example("a cat", label=0)], task_tokenizer)
    assert (encoded.cut_examples, encoded.cut_tokens) == (1, 20 - 14)
    assert "6 tokens of 1 examples cut off" in encoded.format_truncation()


def test_windows_cover_every_token_and_overlap():
    slices = list(iter_windows(25, room=10, overlap=4))
    assert [(s.start, s.stop) for s in slices] == [(0, 10), (6, 16), (12, 22), (18, 25)]
    assert list(iter_windows(0, room=10, overlap=4)) == [slice(0, 0)]
    with pytest.raises(
        ValueError, match=r"only 10 tokens left for the text, but window_overlap is 10; .*\(below 10\) or"
    ):
        next(iter_windows(25, room=10, overlap=10))
    with pytest.raises(ValueError, match="only 0 tokens left .* window_overlap is 2; choose a larger max_length"):
        next(iter_windows(25, room=-3, overlap=2))


def test_a_long_text_in_windows_is_one_example(task_tokenizer):
    task_tokenizer = dataclasses.replace(task_tokenizer, window_overlap=4)
    long, short = example("a " * 30, label=1), example("a cat", label=0)
    encoded = TWO.encode([long, short], task_tokenizer)
    mine = [row for row in encoded.rows if row.example == 0]
    assert len(mine) == 3
    assert sum(row.label_weights[0] for row in mine) == pytest.approx(1.0)  # the weights of all windows add up to 1
    assert encoded.cut_tokens == 0
    logits = [np.array([z]) for z in ([3.0, 0.0], [0.0, 2.0], [0.0, 2.0], [0.0, -1.0])]
    assert TWO.decode([long, short], encoded.rows, logits) == [1, 0]


def test_windows_of_a_pair_keep_the_first_text(task_tokenizer, tokenizer):
    task_tokenizer = dataclasses.replace(task_tokenizer, window_overlap=2)
    rows = TWO.encode([example("the red cat", "a " * 20, label=1)], task_tokenizer).rows
    assert len(rows) > 1
    assert all(words(tokenizer, row.tokens).startswith("[CLS] the red cat [SEP] a") for row in rows)


def test_numbers_and_several_classes(task_tokenizer):
    number = Classification(labels=(), metrics=(metrics.pearson_correlation,))
    rows = number.encode([example("a", label=2.5)], task_tokenizer).rows
    assert rows[0].labels.tolist() == [2.5]
    assert number.decode([example("a")], rows, [np.array([[1.25]])]) == [1.25]

    several = Classification(labels=("x", "y", "z"), metrics=(metrics.micro_f1,), multi_label=True)
    examples = [example("a", label=(1.0, 0.0, 1.0))]
    rows = several.encode(examples, task_tokenizer).rows
    assert rows[0].labels.tolist() == [[1.0, 0.0, 1.0]]
    answers = several.decode(examples, rows, [np.array([[0.1, -0.1, -2.0]])])
    assert answers == [(1, 0, 0)]
    assert several.compute_metrics(several.per_example(examples, answers))["micro_f1"] == pytest.approx(100 * 2 / 3)
    assert several.format_submission(examples, answers)[1].endswith("0\tx\n")


def test_soft_and_hard_labels_in_one_split(task_tokenizer):
    rows = TWO.encode([example("a", label=(0.25, 0.75)), example("a", label=1), example("a")], task_tokenizer).rows
    assert [row.labels.tolist() for row in rows] == [[[0.25, 0.75]], [[0.0, 1.0]], [[0.0, 0.0]]]
    assert [row.label_weights.tolist() for row in rows] == [[1.0], [1.0], [0.0]]


TAGS = Tagging(labels=("O", "B-x", "I-x"))
SENTENCE = TaggedSentence(words=("the", "bird", "Xy", "runs"), tags=("O", "B-x", "I-x", "O"))


def test_a_tag_is_predicted_at_the_first_token_of_a_word(task_tokenizer, tokenizer):
    (row,) = TAGS.encode([SENTENCE], task_tokenizer).rows
    assert words(tokenizer, row.tokens) == "[CLS] the bird x ##y runs [SEP]"
    assert row.label_weights.tolist() == row.prediction_weights.tolist() == [0, 1, 1, 1, 0, 1, 0]
    assert row.labels[row.label_weights > 0].tolist() == [0, 1, 2, 0]
    assert TAGS.decode([SENTENCE], [row], [np.eye(3)[row.labels]]) == [list(SENTENCE.tags)]


def test_tags_of_windows_are_merged(task_tokenizer):
    long = TaggedSentence(words=("a",) * 30, tags=("B-x", "O", "O") * 10)
    cut = TAGS.encode([long], task_tokenizer)
    assert (len(cut.rows), cut.cut_examples, cut.cut_tokens) == (1, 1, 16)
    rows = TAGS.encode([long], dataclasses.replace(task_tokenizer, window_overlap=6)).rows
    logits = [np.eye(3)[row.labels] for row in rows]
    for z in logits:  # wrong tags at the edges of each window
        z[1:3] = z[-3:-1] = np.eye(3)[2]
    got = TAGS.decode([long], rows, logits)[0]
    assert got[2:-2] == list(long.tags)[2:-2]


def test_unknown_tags(task_tokenizer):
    (row,) = TAGS.encode([TaggedSentence(words=("the", "cat"), tags=())], task_tokenizer).rows
    assert (row.prediction_weights.sum(), row.label_weights.sum()) == (2, 0)
    with pytest.raises(ValueError, match="sentence 1: the tag 'B-z' is not one of O, B-x, I-x"):
        TAGS.encode([TaggedSentence(words=("the",), tags=("B-z",))], task_tokenizer)


def test_a_sentence_without_tags_still_has_predictions(task_tokenizer):
    unknown = TaggedSentence(words=("the", "cat"), tags=())
    (row,) = TAGS.encode([unknown], task_tokenizer).rows
    assert row.prediction_weights.sum() == 2
    assert not row.label_weights.any()
    assert TAGS.format_submission([unknown], [["O", "B-x"]]) == (".conll", "the\tO\ncat\tB-x\n")


SPANS = SpanExtraction()
QUESTION = SpanQuestion(
    id="q",
    question="who runs",
    context="The old man sees a small bird near the tree.",
    answers=("small bird",),
    answer_starts=(19,),
)


def predicted_answer(task_type, rows, logits):
    """Returns the answer to QUESTION in the predictions file."""
    _, text = task_type.format_submission([QUESTION], task_type.decode([QUESTION], rows, logits))
    return json.loads(text)["q"]


def test_a_span_points_at_its_tokens(task_tokenizer, tokenizer):
    task_tokenizer = dataclasses.replace(task_tokenizer, max_length=48)
    (row,) = SPANS.encode([QUESTION], task_tokenizer).rows
    start, end = row.labels
    assert words(tokenizer, row.tokens[start : end + 1]) == "small bird"
    paragraph = row.token_types == 1
    paragraph[-1] = False  # [SEP]
    assert row.allowed_answers[0].tolist() == (paragraph | (np.arange(len(paragraph)) == 0)).tolist()
    logits = np.eye(len(row.tokens))[row.labels]
    assert predicted_answer(SPANS, [row], [logits]) == "small bird"
    assert SPANS.compute_metrics(SPANS.per_example([QUESTION], [PredictedSpan("small bird", 0.0)])) == {
        "exact_match": 100.0,
        "f1": 100.0,
    }


def test_a_window_without_the_answer_points_at_cls(task_tokenizer):
    rows = SPANS.encode([QUESTION], task_tokenizer).rows
    assert len(rows) > 1
    held = [row for row in rows if row.labels[0] > 0]
    assert held
    assert all(row.labels.tolist() == [0, 0] for row in rows if row.labels[0] == 0)
    logits = [np.eye(len(row.tokens))[row.labels] * (1 + (row.labels > 0))[:, None] for row in rows]
    assert predicted_answer(SPANS, rows, logits) == "small bird"


def test_invalid_spans_are_not_chosen(task_tokenizer):
    (row,) = SPANS.encode([QUESTION], dataclasses.replace(task_tokenizer, max_length=48)).rows
    z = np.zeros((2, len(row.tokens)))
    z[0, row.labels[1] + 2], z[1, row.labels[0] - 2] = 5.0, 5.0  # the end is before the start
    z[0, row.labels[0]], z[1, row.labels[1]] = 3.0, 3.0
    z[:, 1] = 99.0  # in the question
    assert predicted_answer(SPANS, [row], [z]) == "small bird"
    z[:, 0] = 4.0
    assert predicted_answer(SpanExtraction(no_answer=True), [row], [z]) == ""
    assert predicted_answer(SpanExtraction(no_answer=True, threshold=3.0), [row], [z]) == "small bird"


def test_a_question_nobody_annotated_still_has_predictions(task_tokenizer):
    for row in SPANS.encode(
        [dataclasses.replace(QUESTION, answers=(), answer_starts=(), has_label=False)], task_tokenizer
    ).rows:
        assert (row.prediction_weights.tolist(), row.label_weights.tolist()) == ([1.0, 1.0], [0.0, 0.0])
    for row in SPANS.encode(
        [dataclasses.replace(QUESTION, answers=(), answer_starts=())], task_tokenizer
    ).rows:  # annotated: there is no answer
        assert (row.label_weights.tolist(), row.labels.tolist()) == ([1.0, 1.0], [0, 0])


def test_the_best_threshold_is_found():
    """Compares with the F1 of every possible threshold."""
    random, task_type = np.random.default_rng(0), SpanExtraction(no_answer=True)
    for trial in range(30):
        answers = [("bird",) if random.random() < 0.5 else () for _ in range(12)]
        questions = [SpanQuestion(id=str(i), question="q", context="bird", answers=a) for i, a in enumerate(answers)]
        margins = random.integers(-3, 4, 12).astype(float)
        predicted = [PredictedSpan(random.choice(["bird", "small bird", "tree"]), margin) for margin in margins]
        per_example = task_type.per_example(questions, predicted)

        def f1(threshold, questions=questions, answers=predicted):
            with_threshold = dataclasses.replace(task_type, threshold=threshold)
            return with_threshold.compute_metrics(with_threshold.per_example(questions, answers))["f1"]

        all_f1 = [f1(threshold) for threshold in (-np.inf, *sorted(set(margins)))]
        got = task_type.compute_metrics(per_example)
        assert got["best_f1"] == pytest.approx(max(all_f1)), trial
        assert f1(got["threshold_of_best_f1"]) == pytest.approx(max(all_f1)), trial


def test_an_answer_has_at_most_thirty_tokens(task_tokenizer):
    long = SpanQuestion(id="q", question="a", context="a " * 60, answers=("a",), answer_starts=(0,))
    (row,) = SPANS.encode([long], dataclasses.replace(task_tokenizer, max_length=80)).rows
    z = np.zeros((2, len(row.tokens)))
    z[0, 5], z[1, 5 + MAX_ANSWER_TOKENS], z[1, 4 + MAX_ANSWER_TOKENS] = 9.0, 9.0, 1.0
    (got,) = SPANS.decode([long], [row], [z])
    assert len(got.text.split()) == MAX_ANSWER_TOKENS


def test_choices_are_documents_of_one_row(task_tokenizer, tokenizer):
    task_type = ChoiceSelection()
    question = ChoiceQuestion(first="the cat", choices=("runs", "sees a dog"), label=1)
    (row,) = task_type.encode([question], task_tokenizer).rows
    assert words(tokenizer, row.tokens) == "[CLS] the cat [SEP] runs [SEP] [CLS] the cat [SEP] sees a dog [SEP]"
    assert row.segment_ids.tolist() == [1] * 6 + [2] * 8
    assert words(tokenizer, row.tokens[row.predict_positions]) == "[CLS] [CLS]"
    answers = task_type.decode([question], [row], [np.array([[0.0, 1.0]])])
    assert task_type.compute_metrics(task_type.per_example([question], answers)) == {"accuracy": 100.0}
    assert task_type.format_submission([question], answers) == (".lst", "1\n")


def encode_and_decode(task_type, examples, max_length):
    """Returns (encoded examples, answers of a model that predicts every label)."""
    encoded = task_type.encode(
        examples,
        TaskTokenizer(tokenizer=tokens.load_tokenizer(shared("teachers/minilm-l6-h384-mlm")), max_length=max_length),
    )
    logits = []
    for row in encoded.rows:
        answers = len(row.tokens) if row.allowed_answers is not None else max(4, len(task_type.labels))
        is_class = np.issubdtype(row.labels.dtype, np.integer)
        logits.append((1 + row.labels.max()) * np.eye(answers)[row.labels] if is_class else row.labels[None])
    return encoded, task_type.decode(examples, encoded.rows, logits)


@pytest.mark.parametrize("name", ["wnut17", "codah/cv_split/fold_0", "glue/sst2", "glue/stsb", "glue/mrpc"])
def test_perfect_logits_give_perfect_metrics(name):
    folder, _, task_name = name.partition("/")
    folder, task_name = ("glue", task_name) if folder == "glue" else (name, folder)
    task = registry.find_task(task_name, shared(f"data/tasks/{folder}"))
    examples = task.read("dev")
    _, answers = encode_and_decode(task.task_type, examples, 128)
    assert task.task_type.compute_metrics(task.task_type.per_example(examples, answers))[
        task.task_type.main_metric
    ] == pytest.approx(100)


def test_spans_cover_every_answer_of_squad():
    """A few answers start within a word, so the predicted text may be a little longer."""
    examples = squad.read(shared("data/tasks/squad/dev-v1.1.json"))[:1_000]
    _, answers = encode_and_decode(SPANS, examples, 384)
    for example, got in zip(examples, answers, strict=True):
        assert example.answers[0].lower() in got.text.lower()
    assert np.mean([len(got.text) - len(e.answers[0]) for e, got in zip(examples, answers, strict=True)]) < 0.1
