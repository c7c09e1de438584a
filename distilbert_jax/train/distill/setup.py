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
from distilbert_jax.devices.sharding import check_divisible, shardings
from distilbert_jax.heads.masked_lm import MaskedLM
from distilbert_jax.losses import metrics
from distilbert_jax.losses.base import init_loss_params
from distilbert_jax.models import cost_model
from distilbert_jax.models.attention_kernel import choose_attention_kernel
from distilbert_jax.models.transformer import TransformerConfig
from distilbert_jax.train.distill.inputs import DistillInputs
from distilbert_jax.train.memory_fit import StepMemory
from distilbert_jax.train.objective import BatchMaker, Objective
from distilbert_jax.train.step import (
    Gradients,
    init_train_state,
    make_eval_step,
    make_forward,
    make_gradients,
    make_train_step,
)
from distilbert_jax.train.step_inspection import InspectStep, make_inspect_step
from distilbert_jax.types import Apply, Batch, Metrics, PackedRows, RowKeys, TrainState

EVAL_SEED = 20_191_002  # of the held-out masks: the same for every run and every model
EVAL_MASKING = Masking(mask_rate=0.15, smoothing=0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillSetup:
    """What the training loop needs: device state, input batches and functions, which compile when first called."""

    mesh: Mesh
    state: TrainState  # as it starts
    batches: batches.Batches
    held_out: Callable[[], Iterator[dict[str, np.ndarray]]]
    held_out_rows: int
    train_step: Callable[[TrainState, Any, PackedRows], tuple[TrainState, Metrics]]
    eval_step: Callable[[Any, Any, PackedRows], Metrics]
    inspect_step: InspectStep  # what the train step does, row by row
    gradients: Gradients  # of the train step, without the update
    forward: dict[str, Callable[[Any, PackedRows], Any]]  # of the student, and of the teachers that losses compare with
    teachers: dict[str, Any]  # parameters, by name
    per_device_batch_size: int
    step_memory: StepMemory
    flops: dict[str, float]  # of an update: what is asked, and what a head at every token would ask

    def place(self, batch: dict[str, np.ndarray]) -> PackedRows:
        return PackedRows(**put_batch(batch, self.mesh))


def set_deterministic(experiment: Experiment) -> None:
    """Makes XLA choose reproducible kernels on a GPU, if the experiment asks for it.

    Has an effect only before jax starts its first backend.
    """
    if experiment.deterministic:
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_gpu_deterministic_ops=true"


def setup_distillation(experiment: Experiment, inputs: DistillInputs) -> DistillSetup:
    """Puts the parameters on the devices, checks the shards, and makes the steps.

    Raises:
        ValueError: the models or the batch cannot be divided over the devices, or a shard is damaged.
    """
    teacher, student, corpus = inputs.teacher, inputs.student, inputs.corpus
    mesh = make_mesh(fsdp=experiment.fsdp, tensor=experiment.tensor)
    for who, config in {"student": student.config, **({"teacher": teacher.config} if teacher else {})}.items():
        check_divisible(config, mesh, role=who)
    train, held_out = (batches.Shards(corpus.folder, corpus.shards[side]) for side in (TRAIN, HELD_OUT))
    held_out_rows = min(experiment.eval_rows, len(held_out))

    tx = experiment.optimizer.make_transformation(experiment.steps)
    of_losses = init_loss_params(
        experiment.losses,
        seed=experiment.seed,
        student_size=student.config.hidden_size,
        teacher_size=teacher.config.hidden_size if teacher else None,
    )
    params = {"student": student.params, "losses": of_losses}
    steps = _steps(experiment, inputs, tx, mesh)
    state = init_train_state(params, tx, mesh, dtype=experiment.dtype)
    teachers = {"teacher": cast_kernels(teacher.params, experiment.dtype)} if teacher else {}
    teachers = jax.device_put(teachers, shardings(teachers, mesh))
    fits = StepMemory(
        step=steps["train_step"],
        state=state,
        teachers=teachers,
        global_batch_size=experiment.global_batch_size,
        length=experiment.corpus.sequence_length,
        mesh=mesh,
    )
    at_once = fits.max_batch_size() if experiment.per_device_batch_size == "auto" else experiment.per_device_batch_size
    accumulation, rows = split_batch(
        experiment.global_batch_size, per_device_batch_size=at_once, num_devices=count_row_devices(mesh)
    )
    layout = batches.BatchLayout(
        accumulation=accumulation, rows=rows, process_index=jax.process_index(), process_count=jax.process_count()
    )
    return DistillSetup(
        mesh=mesh,
        state=state,
        batches=batches.Batches(shards=train, seed=experiment.seed, steps=experiment.steps, layout=layout),
        held_out=lambda: batches.iter_in_order(held_out, count=held_out_rows, layout=layout),
        held_out_rows=held_out_rows,
        **steps,
        teachers=teachers,
        per_device_batch_size=rows // count_row_devices(mesh),
        step_memory=fits,
        flops=flops(experiment, teacher.config if teacher else None, student.config),
    )


def flops(experiment: Experiment, teacher: TransformerConfig | None, student: TransformerConfig) -> dict[str, float]:
    """By the names of the log. A teacher that no loss reads costs nothing."""
    length = experiment.corpus.sequence_length
    of = lambda everywhere: float(
        cost_model.update_flops(
            student,
            teacher if experiment.teacher_names else None,
            rows=experiment.global_batch_size,
            length=length,
            num_predictions=masking.num_predictions(
                length, mask_rate=experiment.masking.mask_rate, all_positions=everywhere
            ),
        )
    )
    return {log_keys.MFU.name: of(experiment.needs_all_positions), log_keys.MFU_ALL_POSITIONS.name: of(True)}


def _steps(
    experiment: Experiment, inputs: DistillInputs, tx: optax.GradientTransformation, mesh: Mesh
) -> dict[str, Any]:
    """Returns the functions of a DistillSetup that run on the devices, by field name."""
    configs = {
        "student": choose_attention_kernel(with_compute_options(inputs.student.config, experiment), role="student")
    }
    if inputs.teacher:
        configs["teacher"] = choose_attention_kernel(
            with_compute_options(inputs.teacher.config, experiment), role="teacher"
        )
    ask = make_corpus_masking(inputs.corpus, experiment.masking, all_positions=experiment.needs_all_positions)
    objective = make_objective(experiment, configs, ask)
    gradients = make_gradients(objective, mesh)
    train_step = make_train_step(gradients, tx, mesh)
    programs = {
        "gradients": gradients,
        "eval_step": make_eval_step(_measured(inputs.corpus, configs), mesh),
        "inspect_step": make_inspect_step(objective, mesh),
        "forward": {
            name: make_forward(model, make_batch=ask, mesh=mesh, seed=experiment.seed, with_dropout=name == "student")
            for name, model in {**objective.teachers, "student": objective.student}.items()
        },
    }
    return {"train_step": jax.jit(train_step, donate_argnums=0)} | jax.tree.map(jax.jit, programs)


def _measured(corpus: PreparedCorpus, configs: Mapping[str, TransformerConfig]) -> Objective:
    """What held-out rows are asked: the same of every run, whatever it learns from."""
    taught = "teacher" in configs
    return Objective(
        student=masked_lm(configs["student"]),
        teachers={"teacher": masked_lm(configs["teacher"])} if taught else {},
        losses={},
        extra_metrics={
            **metrics.STUDENT_METRICS,
            **(metrics.TEACHER_METRICS | metrics.COMPARISON_METRICS if taught else {}),
        },
        make_batch=make_corpus_masking(corpus, EVAL_MASKING, all_positions=False),
        seed=EVAL_SEED,
    )


def make_objective(experiment: Experiment, configs: Mapping[str, TransformerConfig], ask: BatchMaker) -> Objective:
    """Of the shapes of "student" and "teacher", as they are computed."""
    return Objective(
        student=masked_lm(configs["student"]),
        teachers={name: masked_lm(configs[name]) for name in experiment.teacher_names},
        losses=experiment.losses,
        extra_metrics=metrics.TEACHER_METRICS if experiment.teacher_names else {},
        make_batch=ask,
        seed=experiment.seed,
    )


def with_compute_options(config: TransformerConfig, experiment: Experiment) -> TransformerConfig:
    return dataclasses.replace(config, dtype=experiment.dtype, remat=experiment.remat)


def masked_lm(config: TransformerConfig) -> Apply:
    apply: Any = MaskedLM(config).apply
    return apply


def cast_kernels(params: Any, dtype: str) -> Any:
    """A teacher's matrices in the type that products round them to anyhow: half the memory, and the same numbers."""
    rounds = lambda path: path[-1].key == "kernel"
    return jax.tree_util.tree_map_with_path(lambda path, x: x.astype(dtype, copy=False) if rounds(path) else x, params)


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
    """Returns the function that masks rows and makes a batch of predictions of them.

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
