"""A model with any head asked in Python: texts in, scores out."""

from typing import Any

import numpy as np

from distilbert_jax.data.batches import Layout
from distilbert_jax.data.tasks.examples import ChoiceQuestion, Example, SpanQuestion, TaggedSentence
from distilbert_jax.data.tasks.registry import form_of
from distilbert_jax.data.tasks.task_types.base import Reading
from distilbert_jax.devices.mesh import make_mesh
from distilbert_jax.hub.load import Model
from distilbert_jax.inference.logits import make_scorer, score


def scores(model: Model, *examples: Any) -> list[np.ndarray]:
    """The head's raw scores of each example, by what the head is for:

    - sequence_classification: a text or a pair of texts -> [1 v], v classes, or a number;
    - token_classification: a list of words -> [t v], a row a token, [CLS] and [SEP] included;
    - question_answering: (question, paragraph) -> [2 t], of every token as the first and the last of the answer; of the
      first window where the paragraph is longer than the model's positions;
    - multiple_choice: (text, list of choices) -> [1 c].

    ValueError for a model without such a head; `evaluate.words` asks the masked-word head.
    """
    form, mesh = form_of(model.head, labels=model.head_cfg.labels), make_mesh()
    if not model.has_head:
        raise ValueError(f"{model.folder} has no {model.head} head")
    asked = [_example(model.head, example) for example in examples]
    rows = form.rows(asked, Reading(tokenizer=model.tokenizer, max_length=model.cfg.max_tokens)).rows
    apply: Any = model.module.apply
    layout = Layout(accumulation=1, rows=-(-min(len(rows), 32) // mesh.size) * mesh.size)
    found = score(make_scorer(apply, mesh), model.params, rows, layout=layout, mesh=mesh, label="asking")
    first = {row.example: i for i, row in reversed(list(enumerate(rows)))}
    return [found[first[number]] for number in range(len(asked))]


def _example(head: str, given: Any) -> Any:
    if head == "sequence_classification":
        return Example(id="", texts=(given,) if isinstance(given, str) else tuple(given), label=None)
    if head == "token_classification":
        return TaggedSentence(words=tuple(given), tags=())
    if head == "question_answering":
        return SpanQuestion(id="", question=given[0], context=given[1], known=False)
    return ChoiceQuestion(first=given[0], choices=tuple(given[1]), label=None)
