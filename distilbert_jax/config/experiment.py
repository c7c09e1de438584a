"""The configuration of a distillation run: one tree of frozen dataclasses, made by a file in experiments/."""

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
    """

    name_or_path: str
    _: dataclasses.KW_ONLY
    revision: str = "main"
    family: str | None = None
    config: TransformerConfig | None = None
    sha256: str | None = None


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
    """

    layers: tuple[int, ...] | Literal["all"]
    init_from: Pretrained | None = None
    family: str = "distilbert"
    dropout: float = 0.1
    attention_dropout: float = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Masking:
    """How tokens are chosen for masked language modelling.

    Attributes:
        mask_rate: the fraction of each row's tokens to predict.
        smoothing: a token of the vocabulary that occurs `count` times in the corpus is chosen with a probability
            proportional to max(count, 1)^−smoothing. 0 chooses all tokens alike.
    """

    mask_rate: float = 0.15
    smoothing: float = 0.7


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
        seed: of all random numbers of the run.
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
    steps: int
    global_batch_size: int = 2_048
    seed: int = 0
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    deterministic: bool = False
    eval_rows: int = 1_024
    per_device_batch_size: int | Literal["auto"] = 32
    remat: Remat = "none"
    fsdp: int = 1
    tensor: int = 1
    workdir: str | None = None
    eval_every: int = 1_000
    checkpoint_every: int = 1_000
    keep_checkpoints: int = 2
    log_every: int = 10
    max_nonfinite_steps: int = 0

    def __post_init__(self) -> None:
        """Checks the values of the fields."""
        untrusted.check_file_name(self.name, what="the experiment's name")
        for name, loss in self.losses.items():
            if loss.teacher is not None and self.teacher is None:
                raise ValueError(f"losses.{name} compares with a teacher, but the experiment has none: set teacher")
        if self.student.init_from is None and self.teacher is None:
            raise ValueError("student.init_from is needed if there is no teacher to start from")
        if not self.losses:
            raise ValueError("losses is empty: give at least one loss")
        for field in POSITIVE_FIELDS:
            if field == "per_device_batch_size" and self.per_device_batch_size == "auto":
                continue
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, not {getattr(self, field)}")
        if self.max_nonfinite_steps < 0:
            raise ValueError(f"max_nonfinite_steps must be at least 0, not {self.max_nonfinite_steps}")

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


POSITIVE_FIELDS = (
    "steps",
    "global_batch_size",
    "eval_rows",
    "eval_every",
    "checkpoint_every",
    "keep_checkpoints",
    "log_every",
    "fsdp",
    "tensor",
    "per_device_batch_size",
)
"""The fields of an Experiment that have to be at least 1."""

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
