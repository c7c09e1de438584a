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


def load_models(experiment: Experiment) -> tuple[load.PretrainedModel | None, load.PretrainedModel]:
    """(teacher, where the student starts). ValueError where they, the losses and the rows do not fit together."""
    teacher = load.load_pretrained(experiment.teacher) if experiment.teacher else None
    start = (
        teacher if experiment.student.init_from is None and teacher else load.load_pretrained(experiment.student_source)
    )
    if teacher and not teacher.has_head:
        raise ValueError(
            f"teacher {teacher.folder} has no masked-word head, so it cannot teach words; give it one first:\n"
            f"  python -m distilbert_jax distill experiments/adapt.py student.init_from={teacher.folder}"
        )
    if teacher:
        layers = experiment.student.layers
        count = start.config.num_layers if layers == "all" else len(layers)
        check_comparable(teacher, start, experiment.losses, student_layers=count)
    for model in {id(m): m for m in (teacher, start) if m}.values():
        if experiment.corpus.sequence_length > model.config.max_positions:
            raise ValueError(
                f"corpus.sequence_length is {experiment.corpus.sequence_length}, but {model.folder} has {model.config.max_positions} "
                "positions"
            )
    # A family that is not supported is refused before the corpus is prepared, which may take hours.
    get_family(experiment.student.family, field="student.family")
    return teacher, start


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudentModel:
    """The student as it starts, and one line for each thing done to get it."""

    family: ModuleType
    config: TransformerConfig
    params: dict[str, Any]
    origin: tuple[str, ...]


def make_student_config(
    experiment: Experiment, start: TransformerConfig
) -> tuple[ModuleType, tuple[int, ...], TransformerConfig]:
    """(family, the layers that are kept, the student's shape)."""
    wanted = experiment.student
    layers = tuple(range(start.num_layers)) if wanted.layers == "all" else wanted.layers
    family = get_family(wanted.family, field="student.family")
    rates = {"dropout": wanted.dropout, "attention_dropout": wanted.attention_dropout}
    return family, layers, family.student_config(start, num_layers=len(layers), **rates)


def load_configs(experiment: Experiment) -> tuple[TransformerConfig | None, TransformerConfig]:
    """(teacher, student), as the experiment states them; what it leaves out is read from config.json."""
    of = lambda wanted: wanted.shape or load.read_config(load.resolve_folder(wanted), "masked_lm")[1]
    return of(experiment.teacher) if experiment.teacher else None, make_student_config(
        experiment, of(experiment.student_source)
    )[2]


def init_student(experiment: Experiment, start: load.PretrainedModel, words: np.ndarray) -> StudentModel:
    """`words` [v] says how often each word stands in the corpus: a new head starts from that."""
    family, layers, config = make_student_config(experiment, start.config)
    student = student_init.init_from_layers(
        start.params, source_config=start.config, student_config=config, layers=layers
    )
    params, origin = student.params, student.copied
    if not start.has_head:
        share = np.full(config.vocab_size, 0.5)
        share[: len(words)] += words
        params |= student_init.init_masked_lm_head(
            config, log_frequency=np.log(share / share.sum()), seed=experiment.seed
        )
        origin += ("a new masked-word head, its bias the words' frequency in the corpus",)
    return StudentModel(family=family, config=config, params=params, origin=(f"from {start.folder}:", *origin))
