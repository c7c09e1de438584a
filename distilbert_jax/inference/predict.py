"""Inference from Python with any task head: texts in, logits out."""

from typing import Any

import numpy as np

from distilbert_jax.data.batches import BatchLayout
from distilbert_jax.data.tasks.examples import ChoiceQuestion, Example, SpanQuestion, TaggedSentence
from distilbert_jax.data.tasks.registry import make_task_type
from distilbert_jax.data.tasks.task_types.base import TaskTokenizer
from distilbert_jax.devices.mesh import make_mesh
from distilbert_jax.hub.load import PretrainedModel
from distilbert_jax.inference.logits import make_predict_step, predict_rows

MAX_BATCH_ROWS = 32


def predict_logits(model: PretrainedModel, *examples: Any) -> list[np.ndarray]:
    """Returns the logits of the model's head for each example.

    The form of an example and the shape of its logits depend on the head:

    - sequence_classification: a text or a pair of texts -> [1 v] for v classes, or v = 1 for a number;
    - token_classification: a list of words -> [t v], one row for each token, including [CLS] and [SEP];
    - question_answering: (question, paragraph) -> [2 t], each token as the first and the last of the answer. If the
      paragraph is longer than the model's positions, these are the logits of its first window;
    - multiple_choice: (text, list of choices) -> [1 c] for c choices.

    Args:
        model: a model that was loaded with such a head.
        examples: the examples.

    Raises:
        ValueError: the model has no such head. For masked tokens, use `inference.fill_mask`.
    """
    task_type, mesh = make_task_type(model.head, labels=model.head_config.labels), make_mesh()
    if not model.has_head:
        raise ValueError(f"{model.folder} has no {model.head} head; load a model that was fine-tuned with this head")
    parsed = [_parse_example(model.head, example) for example in examples]
    task_tokenizer = TaskTokenizer(tokenizer=model.tokenizer, max_length=model.config.max_positions)
    rows = task_type.encode(parsed, task_tokenizer).rows
    apply: Any = model.module.apply
    # A batch needs a multiple of the number of devices; missing rows are empty.
    layout = BatchLayout(accumulation=1, rows=-(-min(len(rows), MAX_BATCH_ROWS) // mesh.size) * mesh.size)
    predict_step = make_predict_step(apply, mesh)
    logits = predict_rows(predict_step, model.params, rows, layout=layout, mesh=mesh, label="predicting")
    first_rows = {row.example: i for i, row in reversed(list(enumerate(rows)))}
    return [logits[first_rows[number]] for number in range(len(parsed))]


def _parse_example(head: str, example: Any) -> Any:
    """Returns the example as the task type of the head takes it, without a label."""
    if head == "sequence_classification":
        return Example(id="", texts=(example,) if isinstance(example, str) else tuple(example), label=None)
    if head == "token_classification":
        return TaggedSentence(words=tuple(example), tags=())
    if head == "question_answering":
        return SpanQuestion(id="", question=example[0], context=example[1], has_label=False)
    return ChoiceQuestion(first=example[0], choices=tuple(example[1]), label=None)
