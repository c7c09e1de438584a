"""A model with any head asked in Python: texts in, scores out."""

from typing import Any

import numpy as np

from distilbert_jax.data.batches import BatchLayout
from distilbert_jax.data.tasks.examples import ChoiceQuestion, Example, SpanQuestion, TaggedSentence
from distilbert_jax.data.tasks.registry import make_task_type
from distilbert_jax.data.tasks.task_types.base import TaskTokenizer
from distilbert_jax.devices.mesh import make_mesh
from distilbert_jax.hub.load import PretrainedModel
from distilbert_jax.inference.logits import make_predict_step, predict_rows


def predict_logits(model: PretrainedModel, *examples: Any) -> list[np.ndarray]:
    """The head's raw scores of each example, by what the head is for:

    - sequence_classification: a text or a pair of texts -> [1 v], v classes, or a number;
    - token_classification: a list of words -> [t v], a row a token, [CLS] and [SEP] included;
    - question_answering: (question, paragraph) -> [2 t], of every token as the first and the last of the answer; of the
      first window where the paragraph is longer than the model's positions;
    - multiple_choice: (text, list of choices) -> [1 c].

    ValueError for a model without such a head; `evaluate.words` asks the masked-word head.
    """
    form, mesh = make_task_type(model.head, labels=model.head_config.labels), make_mesh()
    if not model.has_head:
        raise ValueError(f"{model.folder} has no {model.head} head")
    asked = [_example(model.head, example) for example in examples]
    rows = form.encode(asked, TaskTokenizer(tokenizer=model.tokenizer, max_length=model.config.max_positions)).rows
    apply: Any = model.module.apply
    layout = BatchLayout(accumulation=1, rows=-(-min(len(rows), 32) // mesh.size) * mesh.size)
    found = predict_rows(make_predict_step(apply, mesh), model.params, rows, layout=layout, mesh=mesh, label="asking")
    first = {row.example: i for i, row in reversed(list(enumerate(rows)))}
    return [found[first[number]] for number in range(len(asked))]


def _example(head: str, given: Any) -> Any:
    if head == "sequence_classification":
        return Example(id="", texts=(given,) if isinstance(given, str) else tuple(given), label=None)
    if head == "token_classification":
        return TaggedSentence(words=tuple(given), tags=())
    if head == "question_answering":
        return SpanQuestion(id="", question=given[0], context=given[1], has_label=False)
    return ChoiceQuestion(first=given[0], choices=tuple(given[1]), label=None)
