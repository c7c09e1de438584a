"""Loads the models of an experiment and initialises its student from one of them."""

import dataclasses
from types import ModuleType
from typing import Any

import numpy as np

from distilbert_jax.config.experiment import Experiment, Pretrained
from distilbert_jax.hub import load
from distilbert_jax.messages import format_command
from distilbert_jax.models import student_init
from distilbert_jax.models.families import get_family
from distilbert_jax.models.transformer import TransformerConfig
from distilbert_jax.train.compatibility import check_comparable


def load_models(experiment: Experiment) -> tuple[load.PretrainedModel | None, load.PretrainedModel]:
    """Loads the models of an experiment.

    Returns:
        The teacher, or None, and the model that gives the student its weights. The two are often the same object.

    Raises:
        ValueError: a model cannot be read, or the models, the losses and the length of the rows do not fit together.
    """
    teacher = load.load_pretrained(experiment.teacher) if experiment.teacher else None
    if teacher and experiment.student.init_from is None:
        source = teacher
    else:
        source = load.load_pretrained(experiment.student_source)
    if teacher and not teacher.has_head:
        raise ValueError(
            f"The teacher {teacher.folder} has no masked LM head, so it cannot predict masked tokens. Train a head "
            "for it first:\n"
            f"  {format_command('distill', 'experiments/adapt.py', f'student.init_from={teacher.folder}')}"
        )
    if teacher:
        layers = experiment.student.layers
        num_layers = source.config.num_layers if layers == "all" else len(layers)
        check_comparable(teacher, source, experiment.losses, student_layers=num_layers)
    sequence_length = experiment.corpus.sequence_length
    for model in filter(None, (teacher, source)):
        if sequence_length > model.config.max_positions:
            raise ValueError(
                f"corpus.sequence_length is {sequence_length}, but {model.folder} has {model.config.max_positions} "
                f"positions. Set corpus.sequence_length to {model.config.max_positions} or less."
            )
    # A family that is not supported is refused before the corpus is prepared, which may take hours.
    get_family(experiment.student.family, field="student.family")
    return teacher, source


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudentModel:
    """The student before the first step.

    Attributes:
        family: the module of its architecture in models/families/.
        config: its configuration.
        params: its parameters.
        origin: lines of text that say where the parameters come from.
    """

    family: ModuleType
    config: TransformerConfig
    params: dict[str, Any]
    origin: tuple[str, ...]


def make_student_config(
    experiment: Experiment, source: TransformerConfig
) -> tuple[ModuleType, tuple[int, ...], TransformerConfig]:
    """Makes the student's configuration.

    Args:
        experiment: the experiment.
        source: the configuration of the model that gives the student its weights.

    Returns:
        The module of the student's family, the layers of the source that the student keeps, and its configuration.
    """
    student = experiment.student
    layers = tuple(range(source.num_layers)) if student.layers == "all" else student.layers
    family = get_family(student.family, field="student.family")
    config = family.student_config(
        source, num_layers=len(layers), dropout=student.dropout, attention_dropout=student.attention_dropout
    )
    return family, layers, config


def load_configs(experiment: Experiment) -> tuple[TransformerConfig | None, TransformerConfig]:
    """Returns the configurations of the teacher, or None, and of the student, without reading any weights.

    They are those that the experiment states. What it does not state is read from config.json.
    """
    teacher = _load_config(experiment.teacher) if experiment.teacher else None
    _, _, student = make_student_config(experiment, _load_config(experiment.student_source))
    return teacher, student


def _load_config(pretrained: Pretrained) -> TransformerConfig:
    """Returns the configuration of a pretrained model, as the experiment states it or from its config.json."""
    return pretrained.config or load.read_config(load.resolve_folder(pretrained), "masked_lm")[1]


def init_student(experiment: Experiment, source: load.PretrainedModel, token_counts: np.ndarray) -> StudentModel:
    """Returns the student before the first step, with layers of the source.

    If the source has no masked LM head, the student gets a new one.

    Args:
        experiment: the experiment.
        source: the model that gives the student its weights.
        token_counts: [v], how often each token occurs in the corpus. The output bias of a new head starts as the log of
            these frequencies.
    """
    family, layers, config = make_student_config(experiment, source.config)
    student = student_init.init_from_layers(
        source.params, source_config=source.config, student_config=config, layers=layers
    )
    params, origin = student.params, student.copied
    if not source.has_head:
        # Half a count more for each token, because the log of zero is not finite.
        counts = np.full(config.vocab_size, 0.5)
        counts[: len(token_counts)] += token_counts
        params |= student_init.init_masked_lm_head(
            config, log_frequency=np.log(counts / counts.sum()), seed=experiment.seed
        )
        origin += ("a new masked LM head, with the log frequency of each token in the corpus as its output bias",)
    return StudentModel(family=family, config=config, params=params, origin=(f"from {source.public_name}:", *origin))
