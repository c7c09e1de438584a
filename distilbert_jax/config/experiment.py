"""What a run is: one frozen tree of plain dataclasses, built by a file in experiments/."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

from distilbert_jax.data.shards.prepare import Corpus
from distilbert_jax.io import untrusted
from distilbert_jax.losses.base import LogitLoss, Loss
from distilbert_jax.models.transformer import Remat, TransformerConfig
from distilbert_jax.optimizer import AdamW


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A model that is there already: a Hub folder, a Hub id, or `package:NAME` for the data files of an installed
    Python package.

    What is stated here is checked against the folder on loading; what is left out is taken from its config.json.
    """

    name_or_path: str
    _: dataclasses.KW_ONLY
    revision: str = "main"  # of a Hub id
    family: str | None = None  # a file name in models/families/
    config: TransformerConfig | None = None
    sha256: str | None = None  # of model.safetensors


@dataclasses.dataclass(frozen=True, kw_only=True)
class Student:
    """Which layers are kept, of what. Where the weights come from is apart from who teaches: an adaptation has a
    start and no teacher.
    """

    layers: tuple[int, ...] | Literal["all"]
    init_from: Pretrained | None = None  # the teacher, where it is left out
    family: str = "distilbert"
    dropout: float = 0.1
    attention_dropout: float = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Masking:
    """`share` of each row's real tokens is asked; words are chosen with a probability proportional to max(count,
    1)^−`smoothing`.
    """

    mask_rate: float = 0.15
    smoothing: float = 0.7


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """A run. `global_batch_size` says how many rows make an update; accumulation and mesh are derived, so other devices
    are no other experiment.
    """

    name: str
    corpus: Corpus
    student: Student
    losses: Mapping[str, Loss]
    teacher: Pretrained | None = None
    masking: Masking = dataclasses.field(default_factory=Masking)
    optimizer: AdamW = dataclasses.field(default_factory=AdamW)
    steps: int
    global_batch_size: int = 2_048
    seed: int = 0
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"  # of the computation; parameters are float32
    deterministic: bool = False  # on a GPU: XLA's reproducible kernels, slower
    eval_rows: int = 1_024
    # Where and how often: no part of what the run is.
    per_device_batch_size: int | Literal["auto"] = (
        32  # at once; "auto": as many as fit, by what the compiled step needs
    )
    remat: Remat = "none"  # what the backward pass computes anew, for memory
    fsdp: int = 1  # devices that share one copy of parameters, moments and teacher; rows fall on them too
    tensor: int = 1  # devices of a process that share a row: its heads, MLP and words
    workdir: str | None = None  # runs/NAME, where it is left out
    eval_every: int = 1_000
    checkpoint_every: int = 1_000
    keep_checkpoints: int = 2
    log_every: int = 10
    max_nonfinite_steps: int = 0  # updates that are not finite which are left out before the run stops

    def __post_init__(self) -> None:
        untrusted.check_file_name(self.name, what="the experiment's name")
        for name, loss in self.losses.items():
            if loss.teacher is not None and self.teacher is None:
                raise ValueError(f"losses.{name} compares with a teacher, but the experiment has none")
        if self.student.init_from is None and self.teacher is None:
            raise ValueError("student.init_from is needed where there is no teacher to start from")
        if not self.losses:
            raise ValueError("losses: at least one is needed")
        counts = (
            "steps",
            "global_batch_size",
            "eval_rows",
            "eval_every",
            "checkpoint_every",
            "keep_checkpoints",
            "log_every",
        )
        for field in (*counts, "fsdp", "tensor") + (
            () if self.per_device_batch_size == "auto" else ("per_device_batch_size",)
        ):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, not {getattr(self, field)}")
        if self.max_nonfinite_steps < 0:
            raise ValueError(f"max_nonfinite_steps must be at least 0, not {self.max_nonfinite_steps}")

    @property
    def student_source(self) -> Pretrained:
        """Where the student's weights come from."""
        start = self.student.init_from or self.teacher
        assert start is not None
        return start

    @property
    def teacher_names(self) -> frozenset[str]:
        """The teachers that losses compare with."""
        return frozenset(loss.teacher for loss in self.losses.values() if loss.teacher)

    @property
    def needs_all_positions(self) -> bool:
        """Whether a loss reads the scores of tokens that are not masked: then the vocabulary head runs at every
        place.
        """
        return any(isinstance(loss, LogitLoss) and loss.needs_all_positions for loss in self.losses.values())


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
