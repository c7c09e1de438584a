"""The models of an experiment: who teaches, and the student as it starts."""

import dataclasses
import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from distilbert_jax.config import Experiment
from distilbert_jax.hub import read
from distilbert_jax.losses.base import Loss
from distilbert_jax.losses.cosine import Cosine
from distilbert_jax.losses.hidden_mse import HiddenMSE
from distilbert_jax.models import surgery
from distilbert_jax.models.transformer import TransformerConfig


def read_models(experiment: Experiment) -> tuple[read.Model | None, read.Model]:
    """(teacher, where the student starts). ValueError where they, the losses and the rows do not fit together."""
    teacher = read.read(experiment.teacher) if experiment.teacher else None
    start = teacher if experiment.student.start is None and teacher else read.read(experiment.start)
    if teacher and not teacher.has_head:
        raise ValueError(
            f"teacher {teacher.folder} has no masked-word head, so it cannot teach words; give it one first:\n"
            f"  python -m distilbert_jax distill experiments/adapt.py student.start={teacher.folder}"
        )
    if teacher:
        layers = experiment.student.layers
        count = start.cfg.num_layers if layers == "all" else len(layers)
        demand_comparable(teacher, start, experiment.losses, student_layers=count)
    for model in {id(m): m for m in (teacher, start) if m}.values():
        if experiment.corpus.row_length > model.cfg.max_tokens:
            raise ValueError(
                f"corpus.row_length is {experiment.corpus.row_length}, but {model.folder} has {model.cfg.max_tokens} "
                "positions"
            )
    if experiment.student.family not in read.FAMILIES:
        raise ValueError(f"student.family {experiment.student.family!r}: choose one of {', '.join(read.FAMILIES)}")
    return teacher, start


def demand_comparable(
    teacher: read.Model, student: read.Model, losses: Mapping[str, Loss], *, student_layers: int
) -> None:
    """ValueError where the losses cannot compare the two."""
    if teacher.tokenizer.sha256 != student.tokenizer.sha256:
        raise ValueError(
            f"teacher {teacher.folder} and student {student.folder} have different tokenizers: their words cannot be "
            "compared"
        )
    sizes = teacher.cfg.hidden_size, student.cfg.hidden_size
    if sizes[0] != sizes[1] and any(isinstance(loss, Cosine) for loss in losses.values()):
        raise ValueError(
            f"Cosine compares hidden states of one size; the teacher has {sizes[0]}, the student {sizes[1]}"
        )
    for loss in losses.values():
        if isinstance(loss, HiddenMSE):
            loss.of_teacher(student_layers=student_layers, teacher_layers=teacher.cfg.num_layers)


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
    family = importlib.import_module(f"distilbert_jax.models.families.{wanted.family}")
    rates = {"dropout": wanted.dropout, "attention_dropout": wanted.attention_dropout}
    return family, layers, family.student_of(start, num_layers=len(layers), **rates)


def shapes(experiment: Experiment) -> tuple[TransformerConfig | None, TransformerConfig]:
    """(teacher, student), as the experiment states them; what it leaves out is read from config.json."""
    of = lambda wanted: wanted.shape or read.read_config(read.locate(wanted), "masked_lm")[1]
    return of(experiment.teacher) if experiment.teacher else None, student_shape(experiment, of(experiment.start))[2]


def cut_student(experiment: Experiment, start: read.Model, words: np.ndarray) -> StudentModel:
    """`words` [v] says how often each word stands in the corpus: a new head starts from that."""
    family, layers, cfg = student_shape(experiment, start.cfg)
    student = surgery.cut(start.params, source_cfg=start.cfg, student_cfg=cfg, layers=layers)
    params, origin = student.params, student.copied
    if not start.has_head:
        share = np.full(cfg.vocab_size, 0.5)
        share[: len(words)] += words
        params |= surgery.new_head(cfg, log_frequency=np.log(share / share.sum()), seed=experiment.seed)
        origin += ("a new masked-word head, its bias the words' frequency in the corpus",)
    return StudentModel(family=family, cfg=cfg, params=params, origin=(f"from {start.folder}:", *origin))
