"""What a distillation run reads before its first step: the models and the corpus."""

import contextlib
import dataclasses
from contextlib import AbstractContextManager

from distilbert_jax.config.experiment import Experiment
from distilbert_jax.data.shards.prepare import PreparedCorpus, prepare
from distilbert_jax.hub.load import PretrainedModel
from distilbert_jax.train.distill.models import StudentModel, init_student, load_models


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillInputs:
    """The models and the corpus of an experiment, in the memory and on the disk of this machine.

    Attributes:
        teacher: the model that losses and evaluations compare the student with, if there is one.
        source: the model that gives the student its weights and its tokenizer. It is often the teacher.
        student: the student before the first step.
        corpus: the shards on disk, and the tokenizer that made them.
    """

    teacher: PretrainedModel | None
    source: PretrainedModel
    student: StudentModel
    corpus: PreparedCorpus

    @property
    def sha256(self) -> dict[str, str]:
        """The hashes of the files that were read, by role."""
        hashes = {"start": self.source.sha256, "corpus": self.corpus.sha256}
        return hashes | ({"teacher": self.teacher.sha256} if self.teacher else {})


def load_inputs(
    experiment: Experiment,
    *,
    preparing: AbstractContextManager[None] | None = None,
    compare_sources: bool = True,
) -> DistillInputs:
    """Loads the models of an experiment, prepares its corpus and initialises the student.

    Args:
        experiment: the experiment.
        preparing: the context in which the corpus is prepared. Several processes use it to let the first one prepare
            before the others read.
        compare_sources: whether to check that the text has not changed since the shards were made.

    Raises:
        ValueError: a model or the corpus cannot be read, or they do not fit together.
    """
    teacher, source = load_models(experiment)
    with preparing or contextlib.nullcontext():
        corpus = prepare(experiment.corpus, source.tokenizer, compare_sources=compare_sources)
    student = init_student(experiment, source, corpus.token_counts)
    return DistillInputs(teacher=teacher, source=source, student=student, corpus=corpus)
