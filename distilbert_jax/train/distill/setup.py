"""Sets up a distillation run: device state, input batches and jitted functions."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from distilbert_jax import log_keys
from distilbert_jax.config.experiment import Experiment, Masking
from distilbert_jax.data import batches, masking
from distilbert_jax.data.shards.prepare import PreparedCorpus
from distilbert_jax.data.shards.splits import HELD_OUT, TRAIN
from distilbert_jax.devices.mesh import count_row_devices, make_mesh, put_batch, split_batch
from distilbert_jax.devices.sharding import check_divisible, make_shardings
from distilbert_jax.heads.masked_lm import MaskedLM
from distilbert_jax.losses import metrics
from distilbert_jax.losses.base import init_loss_params
from distilbert_jax.models import cost_model
from distilbert_jax.models.attention_kernel import choose_attention_kernel
from distilbert_jax.models.transformer import TransformerConfig
from distilbert_jax.train.distill.baseline import UnigramBaseline
from distilbert_jax.train.distill.inputs import DistillInputs
from distilbert_jax.train.memory_fit import StepMemory
from distilbert_jax.train.objective import BatchMaker, Objective
from distilbert_jax.train.step import (
    GradientFunction,
    init_train_state,
    make_eval_step,
    make_forward,
    make_gradients,
    make_train_step,
)
from distilbert_jax.train.step_inspection import InspectStep, make_inspect_step
from distilbert_jax.types import Apply, Batch, Metrics, PackedRows, RowKeys, TrainState

EVAL_SEED = 20_191_002  # of the masks of held-out rows: the same for every run and every model
EVAL_MASKING = Masking(mask_rate=0.15, smoothing=0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillSetup:
    """What the training loop needs: device state, input batches and jitted functions, which compile when first called.

    Attributes:
        mesh: the devices.
        state: the state before the first step.
        batches: the rows of every step.
        iter_held_out: returns an iterator over batches of the held-out rows, always in the same order.
        held_out_rows: how many held-out rows there are.
        train_step: train_step(state, teachers, rows) -> (state, metrics). It donates `state`.
        eval_step: eval_step(student_params, teachers, rows) -> sums over the masked tokens.
        inspect_step: the parts of the training step, row by row, for `replay`.
        compute_gradients: the training step without the update.
        forward: the forward passes of the student and of the teachers that losses compare with, by name.
        teachers: the parameters of each teacher on the devices, by name.
        per_device_batch_size: rows of a micro-batch on each device.
        step_memory: the memory that the training step needs, as a function of its rows.
        flops: the floating-point operations of a step: as it is, and with a head at every position. By log key.
        baseline: the cross entropy that a useful student is below.
    """

    mesh: Mesh
    state: TrainState
    batches: batches.Batches
    iter_held_out: Callable[[], Iterator[dict[str, np.ndarray]]]
    held_out_rows: int
    train_step: Callable[[TrainState, Any, PackedRows], tuple[TrainState, Metrics]]
    eval_step: Callable[[Any, Any, PackedRows], Metrics]
    inspect_step: InspectStep
    compute_gradients: GradientFunction
    forward: dict[str, Callable[[Any, PackedRows], Any]]
    teachers: dict[str, Any]
    per_device_batch_size: int
    step_memory: StepMemory
    flops: dict[str, float]
    baseline: UnigramBaseline

    def put_batch(self, batch: dict[str, np.ndarray]) -> PackedRows:
        """Returns a batch on the devices, from this process's rows of it."""
        return PackedRows(**put_batch(batch, self.mesh))


def set_deterministic(experiment: Experiment) -> None:
    """Makes XLA choose reproducible kernels on a GPU, if the experiment asks for it.

    Has an effect only before jax starts its first backend.
    """
    if experiment.deterministic:
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_gpu_deterministic_ops=true"


def setup_distillation(experiment: Experiment, inputs: DistillInputs) -> DistillSetup:
    """Puts the parameters on the devices, opens the shards, and makes the jitted functions.

    Raises:
        ValueError: the models or the batch cannot be divided over the devices, a shard is damaged, or
            per_device_batch_size=auto finds that not even one row fits.
    """
    teacher, student, corpus = inputs.teacher, inputs.student, inputs.corpus
    mesh = make_mesh(fsdp=experiment.fsdp, tensor=experiment.tensor)
    for role, config in {"student": student.config, **({"teacher": teacher.config} if teacher else {})}.items():
        check_divisible(config, mesh, role=role)
    train, held_out = (batches.Shards(corpus.folder, corpus.shards[split]) for split in (TRAIN, HELD_OUT))
    held_out_rows = min(experiment.eval_rows, len(held_out))

    tx = experiment.optimizer.make_transformation(experiment.steps)
    functions = _make_functions(experiment, inputs, tx, mesh)
    state = _init_state(experiment, inputs, tx, mesh)
    teachers = {"teacher": cast_kernels(teacher.params, experiment.dtype)} if teacher else {}
    teachers = jax.device_put(teachers, make_shardings(teachers, mesh))
    step_memory = StepMemory(
        step=functions["train_step"],
        state=state,
        teachers=teachers,
        global_batch_size=experiment.global_batch_size,
        length=experiment.corpus.sequence_length,
        mesh=mesh,
    )
    per_device_batch_size = experiment.per_device_batch_size
    if per_device_batch_size == "auto":
        per_device_batch_size = step_memory.max_batch_size()
    accumulation, rows = split_batch(
        experiment.global_batch_size,
        per_device_batch_size=per_device_batch_size,
        num_devices=count_row_devices(mesh),
    )
    layout = batches.BatchLayout(
        accumulation=accumulation, rows=rows, process_index=jax.process_index(), process_count=jax.process_count()
    )
    # A large global batch would mostly be filled up with empty rows.
    held_out_layout = dataclasses.replace(layout, accumulation=max(1, min(accumulation, -(-held_out_rows // rows))))
    return DistillSetup(
        mesh=mesh,
        state=state,
        batches=batches.Batches(shards=train, seed=experiment.seed, steps=experiment.steps, layout=layout),
        iter_held_out=lambda: batches.iter_in_order(held_out, count=held_out_rows, layout=held_out_layout),
        held_out_rows=held_out_rows,
        **functions,
        teachers=teachers,
        per_device_batch_size=rows // count_row_devices(mesh),
        step_memory=step_memory,
        flops=compute_flops(experiment, teacher.config if teacher else None, student.config),
        baseline=UnigramBaseline.from_counts(corpus.token_counts, corpus.tokenizer.special_ids),
    )


def compute_flops(
    experiment: Experiment, teacher: TransformerConfig | None, student: TransformerConfig
) -> dict[str, float]:
    """Returns the floating-point operations of a step, by the log keys of the utilization that they are logged as.

    A teacher that no loss compares with does not run, so it is not counted.
    """
    length = experiment.corpus.sequence_length

    def compute(all_positions: bool) -> float:
        num_predictions = masking.num_predictions(
            length, mask_rate=experiment.masking.mask_rate, all_positions=all_positions
        )
        return float(
            cost_model.update_flops(
                student,
                teacher if experiment.teacher_names else None,
                rows=experiment.global_batch_size,
                length=length,
                num_predictions=num_predictions,
            )
        )

    return {log_keys.MFU.name: compute(experiment.needs_all_positions), log_keys.MFU_ALL_POSITIONS.name: compute(True)}


def _init_state(
    experiment: Experiment, inputs: DistillInputs, tx: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
    """Returns the state before the first step, on the devices."""
    student, teacher = inputs.student, inputs.teacher
    loss_params = init_loss_params(
        experiment.losses,
        seed=experiment.seed,
        student_size=student.config.hidden_size,
        teacher_size=teacher.config.hidden_size if teacher else None,
    )
    params = {"student": student.params, "losses": loss_params}
    return init_train_state(params, tx, mesh, dtype=experiment.dtype)


def _make_functions(
    experiment: Experiment, inputs: DistillInputs, tx: optax.GradientTransformation, mesh: Mesh
) -> dict[str, Any]:
    """Returns the functions of a DistillSetup that run on the devices, by field name."""
    student_config = set_compute_options(inputs.student.config, experiment)
    configs = {"student": choose_attention_kernel(student_config, role="student")}
    if inputs.teacher:
        teacher_config = set_compute_options(inputs.teacher.config, experiment)
        configs["teacher"] = choose_attention_kernel(teacher_config, role="teacher")
    make_batch = make_corpus_masking(inputs.corpus, experiment.masking, all_positions=experiment.needs_all_positions)
    objective = make_objective(experiment, configs, make_batch)
    compute_gradients = make_gradients(objective, mesh)
    train_step = make_train_step(compute_gradients, tx, mesh)
    functions = {
        "compute_gradients": compute_gradients,
        "eval_step": make_eval_step(_make_eval_objective(inputs.corpus, configs), mesh),
        "inspect_step": make_inspect_step(objective, mesh),
        "forward": {
            name: make_forward(
                apply, make_batch=make_batch, mesh=mesh, seed=experiment.seed, with_dropout=name == "student"
            )
            for name, apply in {**objective.teachers, "student": objective.student}.items()
        },
    }
    return {"train_step": jax.jit(train_step, donate_argnums=0)} | jax.tree.map(jax.jit, functions)


def _make_eval_objective(corpus: PreparedCorpus, configs: Mapping[str, TransformerConfig]) -> Objective:
    """Returns the objective of the evaluation on held-out rows, which has metrics and no losses.

    It is the same for every run on a corpus, whatever losses the run trains with.
    """
    has_teacher = "teacher" in configs
    return Objective(
        student=make_apply(configs["student"]),
        teachers={"teacher": make_apply(configs["teacher"])} if has_teacher else {},
        losses={},
        extra_metrics={
            **metrics.STUDENT_METRICS,
            **(metrics.TEACHER_METRICS | metrics.COMPARISON_METRICS if has_teacher else {}),
        },
        make_batch=make_corpus_masking(corpus, EVAL_MASKING, all_positions=False),
        seed=EVAL_SEED,
    )


def make_objective(
    experiment: Experiment, configs: Mapping[str, TransformerConfig], make_batch: BatchMaker
) -> Objective:
    """Returns the objective of training.

    Args:
        experiment: the experiment.
        configs: the configurations of the student and the teacher, by name, with their compute options.
        make_batch: masks the rows.
    """
    return Objective(
        student=make_apply(configs["student"]),
        teachers={name: make_apply(configs[name]) for name in experiment.teacher_names},
        losses=experiment.losses,
        extra_metrics=metrics.TEACHER_METRICS if experiment.teacher_names else {},
        make_batch=make_batch,
        seed=experiment.seed,
    )


def set_compute_options(config: TransformerConfig, experiment: Experiment) -> TransformerConfig:
    """Returns a model's configuration with the type and the rematerialization of an experiment."""
    return dataclasses.replace(config, dtype=experiment.dtype, remat=experiment.remat)


def make_apply(config: TransformerConfig) -> Apply:
    """Returns the forward pass of a model with a masked LM head."""
    apply: Any = MaskedLM(config).apply
    return apply


def cast_kernels(params: Any, dtype: str) -> Any:
    """Returns a teacher's parameters with its kernels in `dtype`.

    This halves the memory and changes no number, because matrix products round their kernels to this type anyway.
    """

    def cast(path: Any, x: Any) -> Any:
        return x.astype(dtype, copy=False) if path[-1].key == "kernel" else x

    return jax.tree_util.tree_map_with_path(cast, params)


def make_corpus_masking(corpus: PreparedCorpus, config: Masking, *, all_positions: bool) -> BatchMaker:
    """Returns the function that masks rows of a corpus, as `make_masking` does."""
    tokenizer = corpus.tokenizer
    return make_masking(
        config,
        corpus.token_counts,
        mask_id=tokenizer.mask_id,
        special_ids=tokenizer.special_ids,
        all_positions=all_positions,
    )


def make_masking(
    config: Masking, token_counts: np.ndarray, *, mask_id: int, special_ids: Sequence[int], all_positions: bool
) -> BatchMaker:
    """Returns the function that masks rows and makes a batch of them, with the masked tokens as labels.

    Args:
        config: how many tokens are masked, and how much rare ones are preferred.
        token_counts: [v], how often each token of the vocabulary occurs in the corpus.
        mask_id: the id of [MASK].
        special_ids: ids that are never masked.
        all_positions: whether every token is a prediction, or only the masked ones.
    """
    masker = masking.TokenMasker(
        mask_id=mask_id, vocab_size=len(token_counts), mask_rate=config.mask_rate, all_positions=all_positions
    )
    counts, special = jnp.asarray(token_counts, jnp.float32), jnp.asarray(special_ids)
    preference = masking.compute_log_preference(counts, special, smoothing=config.smoothing)

    def make_batch(keys: RowKeys, rows: PackedRows) -> Batch:
        return masker(keys, rows, preference)

    return make_batch
