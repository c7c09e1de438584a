"""The configuration of a distillation run: one tree of frozen dataclasses, made by a file in experiments/."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Annotated, Literal

from distilbert_jax.data.shards.prepare import Corpus
from distilbert_jax.fields import FieldError, NonNegativeInt, PositiveInt, Range, Rate, check_fields
from distilbert_jax.io import untrusted
from distilbert_jax.losses.base import LogitLoss, Loss
from distilbert_jax.losses.metrics import TEACHER_METRICS
from distilbert_jax.models.families import get_family
from distilbert_jax.models.transformer import Remat, TransformerConfig
from distilbert_jax.optimizer import AdamW


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A pretrained model.

    Values that are given here are checked against the model's folder when it is loaded; values that are left out are
    taken from its config.json.

    Attributes:
        name_or_path: a folder in the Hub's layout, its address in an object store, a Hub id, or `package:NAME` for the
            data files of an installed Python package.
        revision: the branch, tag or commit of a Hub id.
        family: the name of a module in models/families/.
        config: the model's sizes.
        sha256: the SHA-256 of model.safetensors.

    Raises:
        ValueError: a field has a value that is not allowed.
    """

    name_or_path: str
    _: dataclasses.KW_ONLY
    revision: str = "main"
    family: str | None = None
    config: TransformerConfig | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_fields(self)
        if self.family is not None:
            get_family(self.family, field="Pretrained.family")
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise FieldError("Pretrained", "sha256", f"must be 64 hexadecimal digits (lower case), not {self.sha256!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Student:
    """The student: the model that it starts from and the layers that it keeps.

    The model that it starts from need not be the teacher. An adaptation to other text has no teacher at all.

    Attributes:
        layers: the indices of the layers to copy, counted from 0, or "all".
        init_from: the model to copy them from; the teacher if left out.
        family: the model family of the student, the name of a module in models/families/.
        dropout: dropout rate of the hidden states.
        attention_dropout: dropout rate of the attention probabilities.

    Raises:
        ValueError: a field has a value that is not allowed.
    """

    layers: tuple[NonNegativeInt, ...] | Literal["all"]
    init_from: Pretrained | None = None
    family: str = "distilbert"
    dropout: Rate = 0.1
    attention_dropout: Rate = 0.1

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_fields(self, path="student")
        if not self.layers:
            raise FieldError("student", "layers", "is empty: give at least one layer to copy")
        get_family(self.family, field="student.family")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Masking:
    """How tokens are chosen for masked language modelling.

    Attributes:
        mask_rate: the fraction of each row's tokens to predict.
        smoothing: a token of the vocabulary that occurs `count` times in the corpus is chosen with a probability
            proportional to max(count, 1)^−smoothing. 0 chooses all tokens alike.

    Raises:
        ValueError: a field has a value that is not allowed.
    """

    mask_rate: Annotated[float, Range(above=0, at_most=1)] = 0.15
    smoothing: Annotated[float, Range(at_least=0, at_most=100)] = 0.7

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_fields(self, path="masking")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """A distillation run.

    `global_batch_size` is the number of rows of one optimizer update. The number of micro-batches and the mesh follow
    from the devices, so the same experiment runs on other devices. The fields from `per_device_batch_size` on do not
    change the result, only where and how often something happens.

    Attributes:
        name: the name of the run, and of its folder if `workdir` is left out.
        corpus: the text and how it is split into rows.
        student: the model to train.
        losses: the terms of the loss, by name.
        teacher: the model to learn from, or None if no loss needs one.
        masking: how tokens are masked.
        optimizer: the optimizer and its schedule.
        steps: the number of optimizer updates.
        global_batch_size: rows of one update, over all devices.
        seed: of all random numbers of the run. Any integer: different seeds give different numbers.
        dtype: the type of the computation; parameters are always float32.
        deterministic: whether to use XLA's reproducible kernels on a GPU, which are slower. Does not work yet: with jax
            0.11.2 on an H200, the first step fails.
        eval_rows: the largest number of held-out rows in an evaluation.
        per_device_batch_size: rows that one device processes at once; "auto" for as many as fit into its memory,
            according to what the compiled step needs.
        remat: which activations the backward pass computes again, to save memory.
        fsdp: devices that share one copy of the parameters, moments and teacher; rows are divided over them too.
        tensor: devices of one process that divide the attention heads, MLP and vocabulary of the same rows.
        workdir: the run's folder or its address in an object store; runs/NAME if left out.
        eval_every: steps between two evaluations.
        checkpoint_every: steps between two checkpoints.
        keep_checkpoints: the number of checkpoints to keep.
        log_every: steps between two lines of the log.
        max_nonfinite_steps: the number of steps that may be skipped, because their loss or gradients are not finite,
            before the run stops.

    Raises:
        ValueError: if a field has a value that is not possible.
    """

    name: str
    corpus: Corpus
    student: Student
    losses: Mapping[str, Loss]
    teacher: Pretrained | None = None
    masking: Masking = dataclasses.field(default_factory=Masking)
    optimizer: AdamW = dataclasses.field(default_factory=AdamW)
    steps: PositiveInt
    global_batch_size: Annotated[int, Range(at_least=1, at_most=2**24)] = 2_048
    seed: int = 0
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    deterministic: bool = False
    eval_rows: PositiveInt = 1_024
    per_device_batch_size: PositiveInt | Literal["auto"] = 32
    remat: Remat = "none"
    fsdp: PositiveInt = 1
    tensor: PositiveInt = 1
    workdir: str | None = None
    eval_every: PositiveInt = 1_000
    checkpoint_every: PositiveInt = 1_000
    keep_checkpoints: PositiveInt = 2
    log_every: PositiveInt = 10
    max_nonfinite_steps: NonNegativeInt = 0

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_fields(self, path="")
        untrusted.check_file_name(self.name, what="the experiment's name")
        check_losses(self.losses, has_teacher=self.teacher is not None)
        if self.student.init_from is None and self.teacher is None:
            raise ValueError("student.init_from is needed if there is no teacher to start from")

    @property
    def student_source(self) -> Pretrained:
        """The model that the student's weights come from."""
        source = self.student.init_from or self.teacher
        assert source is not None
        return source

    @property
    def teacher_names(self) -> frozenset[str]:
        """The names of the teachers that losses compare with."""
        return frozenset(loss.teacher for loss in self.losses.values() if loss.teacher)

    @property
    def needs_all_positions(self) -> bool:
        """Whether a loss reads the logits of tokens that are not masked.

        If so, the vocabulary head runs at every position, and otherwise only at the masked ones.
        """
        return any(isinstance(loss, LogitLoss) and loss.needs_all_positions for loss in self.losses.values())


def check_losses(losses: Mapping[str, Loss], *, has_teacher: bool) -> None:
    """Raises ValueError unless these losses can be the objective of a run.

    Args:
        losses: the losses, by name.
        has_teacher: whether the run has a teacher.
    """
    if not losses:
        raise ValueError("losses is empty: give at least one loss")
    for name, loss in losses.items():
        if not re.fullmatch(r"[\w-]+", name) or name in TEACHER_METRICS:
            raise ValueError(
                f"losses has the name {name!r}: choose one of letters, digits, _ and -, other than "
                f"{' and '.join(TEACHER_METRICS)}"
            )
        if loss.teacher not in (None, TEACHER_NAME):
            raise FieldError("", f"losses.{name}.teacher", f"must be {TEACHER_NAME!r} or None, not {loss.teacher!r}")
        if loss.teacher is not None and not has_teacher:
            raise ValueError(f"losses.{name} compares with a teacher, but there is none: set teacher")
    if not any(loss.weight for loss in losses.values()):
        raise ValueError("every weight in losses is 0, so nothing would be learned: give one loss a weight above 0")


TEACHER_NAME = "teacher"
"""What the field `teacher` of a loss calls the teacher of the run."""

RESUMABLE_FIELDS = (
    "per_device_batch_size",
    "remat",
    "fsdp",
    "tensor",
    "workdir",
    "eval_every",
    "checkpoint_every",
    "keep_checkpoints",
    "log_every",
    "max_nonfinite_steps",
)
"""The fields of an Experiment that may change when a run is resumed."""
