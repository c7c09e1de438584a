"""The models of an experiment: who teaches, and the student as it starts."""

import dataclasses
from types import ModuleType
from typing import Any

import numpy as np

from distilbert_jax.config.experiment import Experiment
from distilbert_jax.hub import load
from distilbert_jax.models import student_init
from distilbert_jax.models.families import get_family
from distilbert_jax.models.transformer import TransformerConfig
from distilbert_jax.train.compatibility import check_comparable


def load_models(experiment: Experiment) -> tuple[load.Model | None, load.Model]:
    """(teacher, where the student starts). ValueError where they, the losses and the rows do not fit together."""
    teacher = load.read(experiment.teacher) if experiment.teacher else None
    start = teacher if experiment.student.start is None and teacher else load.read(experiment.start)
    if teacher and not teacher.has_head:
        raise ValueError(
            f"teacher {teacher.folder} has no masked-word head, so it cannot teach words; give it one first:\n"
            f"  python -m distilbert_jax distill experiments/adapt.py student.start={teacher.folder}"
        )
    if teacher:
        layers = experiment.student.layers
        count = start.cfg.num_layers if layers == "all" else len(layers)
        check_comparable(teacher, start, experiment.losses, student_layers=count)
    for model in {id(m): m for m in (teacher, start) if m}.values():
        if experiment.corpus.row_length > model.cfg.max_tokens:
            raise ValueError(
                f"corpus.row_length is {experiment.corpus.row_length}, but {model.folder} has {model.cfg.max_tokens} "
                "positions"
            )
    # A family that is not supported is refused before the corpus is prepared, which may take hours.
    get_family(experiment.student.family, field="student.family")
    return teacher, start


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudentModel:
    """The student as it starts, and one line for each thing done to get it."""

    family: ModuleType
    cfg: TransformerConfig
    params: dict[str, Any]
    origin: tuple[str, ...]


def student_shape(
    experiment: Experiment, start: TransformerConfig
) -> tuple[ModuleType, tuple[int, ...], TransformerConfig]:
    """(family, the layers that are kept, the student's shape)."""
    wanted = experiment.student
    layers = tuple(range(start.num_layers)) if wanted.layers == "all" else wanted.layers
    family = get_family(wanted.family, field="student.family")
    rates = {"dropout": wanted.dropout, "attention_dropout": wanted.attention_dropout}
    return family, layers, family.student_of(start, num_layers=len(layers), **rates)


def shapes(experiment: Experiment) -> tuple[TransformerConfig | None, TransformerConfig]:
    """(teacher, student), as the experiment states them; what it leaves out is read from config.json."""
    of = lambda wanted: wanted.shape or load.read_config(load.locate(wanted), "masked_lm")[1]
    return of(experiment.teacher) if experiment.teacher else None, student_shape(experiment, of(experiment.start))[2]


def init_student(experiment: Experiment, start: load.Model, words: np.ndarray) -> StudentModel:
    """`words` [v] says how often each word stands in the corpus: a new head starts from that."""
    family, layers, cfg = student_shape(experiment, start.cfg)
    student = student_init.cut(start.params, source_cfg=start.cfg, student_cfg=cfg, layers=layers)
    params, origin = student.params, student.copied
    if not start.has_head:
        share = np.full(cfg.vocab_size, 0.5)
        share[: len(words)] += words
        params |= student_init.new_head(cfg, log_frequency=np.log(share / share.sum()), seed=experiment.seed)
        origin += ("a new masked-word head, its bias the words' frequency in the corpus",)
    return StudentModel(family=family, cfg=cfg, params=params, origin=(f"from {start.folder}:", *origin))
