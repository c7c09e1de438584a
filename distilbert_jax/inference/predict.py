"""Inference from Python with any task head: texts in, logits out."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from distilbert_jax.data.batches import BatchLayout
from distilbert_jax.data.tasks.examples import ChoiceQuestion, Example, SpanQuestion, TaggedSentence
from distilbert_jax.data.tasks.registry import make_task_type
from distilbert_jax.data.tasks.task_types.base import TaskTokenizer, TaskType
from distilbert_jax.devices.mesh import make_mesh
from distilbert_jax.hub.load import PretrainedModel
from distilbert_jax.inference.logits import make_predict_step, predict_rows
from distilbert_jax.messages import format_value

MAX_BATCH_ROWS = 32

EXAMPLE_FORMS = {
    "sequence_classification": "a text, or a pair of texts as a tuple",
    "token_classification": "a list of words",
    "question_answering": "a tuple (question, paragraph)",
    "multiple_choice": "a tuple (text, list of choices)",
}
"""What an example is, for each head."""


def predict_logits(model: PretrainedModel, *examples: Any) -> list[np.ndarray]:
    """Returns the logits of the model's head for each example, in their order.

    The form of an example and the shape of its logits depend on the head:

    - sequence_classification: a text, or a pair of texts as a tuple -> [1 v] for v classes, or v = 1 for a number;
    - token_classification: a list of words -> [t v], one row for each token, including [CLS] and [SEP];
    - question_answering: (question, paragraph) -> [2 t], each token as the first and the last of the answer. If the
      paragraph is longer than the model's positions, these are the logits of its first window;
    - multiple_choice: (text, list of choices) -> [1 c] for c choices.

    Args:
        model: a model that was loaded with such a head.
        examples: the examples, or lists of examples. Texts and pairs of texts may be mixed.

    Raises:
        ValueError: there is no example, one does not have the form that the head needs, the model has no such head, or
            its logits are not finite. For masked words, use `inference.fill_mask`.
    """
    task_type = make_task_type(model.head, labels=model.head_config.labels)
    if not model.has_head:
        raise ValueError(f"{model.folder} has no {model.head} head; load a model that was fine-tuned with this head")
    parsed = [
        _parse_example(model.head, example, number) for number, example in enumerate(_flatten(model.head, examples), 1)
    ]
    if not parsed:
        raise ValueError(f"there is no example; for {model.head}, an example is {EXAMPLE_FORMS[model.head]}")
    # A batch holds questions with the same number of choices.
    groups: dict[int, list[int]] = {}
    for i, example in enumerate(parsed):
        groups.setdefault(len(getattr(example, "choices", ())), []).append(i)
    logits: dict[int, np.ndarray] = {}
    for indices in groups.values():
        logits |= zip(indices, _predict_alike(model, task_type, [parsed[i] for i in indices]), strict=True)
    return [logits[i] for i in range(len(parsed))]


def _predict_alike(model: PretrainedModel, task_type: TaskType, examples: Sequence[Any]) -> list[np.ndarray]:
    """Returns the logits of examples that may share a batch."""
    mesh = make_mesh()
    task_tokenizer = TaskTokenizer(tokenizer=model.tokenizer, max_length=model.config.max_positions)
    rows = task_type.encode(examples, task_tokenizer).rows
    apply: Any = model.module.apply
    # A batch needs a multiple of the number of devices; missing rows are empty.
    layout = BatchLayout(accumulation=1, rows=-(-min(len(rows), MAX_BATCH_ROWS) // mesh.size) * mesh.size)
    predict_step = make_predict_step(apply, mesh)
    logits = predict_rows(predict_step, model.params, rows, layout=layout, mesh=mesh, label="predicting")
    first_rows = {row.example: i for i, row in reversed(list(enumerate(rows)))}
    return [logits[first_rows[number]] for number in range(len(examples))]


def check_text(value: Any, *, what: str) -> str:
    """Returns a text that a tokenizer can read.

    Args:
        value: what a caller gave as a text.
        what: its place, for the error message, such as "example 2".

    Raises:
        ValueError: it is not a string, or it has half of a surrogate pair, which is not valid Unicode.
    """
    if not isinstance(value, str):
        raise ValueError(f"{what} must be a text (str), not {_describe_value(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{what}: character {error.start + 1} is {value[error.start]!r}, half of a surrogate pair, which is not "
            "valid Unicode; decode the text with errors='replace', or remove the character"
        ) from None
    return value


def _flatten(head: str, examples: Sequence[Any]) -> Iterator[Any]:
    """Yields every example, also those in lists. A list of words is a single example, and an empty list an error."""
    for example in examples:
        is_words = head == "token_classification" and isinstance(example, list) and not _has_lists(example)
        if isinstance(example, list) and example and not is_words:
            yield from example
        else:
            yield example


def _has_lists(values: Sequence[Any]) -> bool:
    """Returns whether one of the values is a list or a tuple."""
    return any(isinstance(value, list | tuple) for value in values)


def _parse_example(head: str, example: Any, number: int) -> Any:
    """Returns the example as the task type of the head takes it, without a label.

    Args:
        head: the name of the head.
        example: what the caller gave.
        number: its number from 1, for error messages.

    Raises:
        ValueError: it does not have the form that the head needs.
    """
    if not _has_form(head, example):
        raise ValueError(
            f"example {number} is {_describe_value(example)}, but for {head} an example is {EXAMPLE_FORMS[head]}; many "
            "examples are a list of them"
        )
    what = f"example {number}"
    if head == "sequence_classification":
        texts = (example,) if isinstance(example, str) else example
        return Example(id="", texts=tuple(check_text(text, what=what) for text in texts), label=None)
    if head == "token_classification":
        return TaggedSentence(words=tuple(check_text(word, what=what) for word in example), tags=())
    if head == "question_answering":
        question, context = (check_text(text, what=what) for text in example)
        return SpanQuestion(id="", question=question, context=context, has_label=False)
    choices = tuple(check_text(choice, what=what) for choice in example[1])
    return ChoiceQuestion(first=check_text(example[0], what=what), choices=choices, label=None)


def _has_form(head: str, example: Any) -> bool:
    """Returns whether an example is built as the head needs it. Its texts are checked later."""
    if head == "sequence_classification":
        return isinstance(example, str) or _is_pair(example)
    if head == "token_classification":
        return isinstance(example, list | tuple) and len(example) > 0
    if head == "question_answering":
        return _is_pair(example)
    return _is_pair(example) and isinstance(example[1], list | tuple) and len(example[1]) > 0


def _is_pair(example: Any) -> bool:
    """Returns whether an example is a tuple of two values."""
    return isinstance(example, tuple) and len(example) == 2


def _describe_value(value: Any) -> str:
    """Returns a short description of a value for error messages, such as "a tuple of 3" or "None"."""
    if isinstance(value, str | list | tuple | dict | set):
        kind = "a text" if isinstance(value, str) else f"a {type(value).__name__} of {len(value)}"
        return f"{kind}, {format_value(value)}"
    return "None" if value is None else f"of type {type(value).__name__}"
