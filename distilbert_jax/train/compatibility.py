"""Checks that a student can be compared with its teacher."""

from collections.abc import Mapping

from distilbert_jax.hub.load import PretrainedModel
from distilbert_jax.losses.base import Loss, ModelSizes


def check_comparable(
    teacher: PretrainedModel, student: PretrainedModel, losses: Mapping[str, Loss], *, student_layers: int
) -> None:
    """Raises ValueError if the losses cannot compare the two models.

    Args:
        teacher: the model that losses compare with.
        student: the model that gives the student its weights, tokenizer and hidden size.
        losses: the losses of the objective.
        student_layers: the number of layers that the student will have.
    """
    if difference := teacher.tokenizer.find_difference(student.tokenizer):
        raise ValueError(
            f"The teacher {teacher.folder} and the student {student.folder} have different tokenizers, so their "
            f"predictions cannot be compared: {difference}. Choose two models that have the same tokenizer."
        )
    if teacher.head == "masked_lm" and teacher.config.vocab_size != student.config.vocab_size:
        raise ValueError(
            f"The word embeddings of the teacher {teacher.folder} have {teacher.config.vocab_size} rows, but those of "
            f"the student {student.folder} have {student.config.vocab_size}, so their logits cannot be compared. "
            "Choose two models that have the same vocab_size in config.json."
        )
    for loss in losses.values():
        if loss.teacher is not None:
            loss.check_models(
                ModelSizes(hidden_size=student.config.hidden_size, num_layers=student_layers),
                ModelSizes(hidden_size=teacher.config.hidden_size, num_layers=teacher.config.num_layers),
            )
