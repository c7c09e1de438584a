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
from distilbert_jax.data.shards.prepare import Prepared
from distilbert_jax.data.shards.splits import HELD_OUT, TRAIN
from distilbert_jax.devices.mesh import make_mesh, place, row_devices, split
from distilbert_jax.devices.sharding import demand_divides, shardings
from distilbert_jax.heads.masked_lm import MaskedLM
from distilbert_jax.losses import metrics
from distilbert_jax.losses.base import first_params
from distilbert_jax.models import cost_model
from distilbert_jax.models.attention_kernel import with_attention
from distilbert_jax.models.transformer import TransformerConfig
from distilbert_jax.train.distill.inputs import DistillInputs
from distilbert_jax.train.memory_fit import Fits
from distilbert_jax.train.objective import Ask, Objective
from distilbert_jax.train.step import Gradients, make_eval_step, make_forward, make_gradients, make_train_step, start
from distilbert_jax.train.step_inspection import Dissect, make_dissect
from distilbert_jax.types import Apply, Batch, Metrics, RowKeys, Rows, TrainState

EVAL_SEED = 20_191_002  # of the held-out masks: the same for every run and every model
EVAL_MASKING = Masking(share=0.15, smoothing=0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillSetup:
    """What the training loop needs: device state, input batches and functions, which compile when first called."""

    mesh: Mesh
    state: TrainState  # as it starts
    batches: batches.Batches
    held_out: Callable[[], Iterator[dict[str, np.ndarray]]]
    held_out_rows: int
    train_step: Callable[[TrainState, Any, Rows], tuple[TrainState, Metrics]]
    eval_step: Callable[[Any, Any, Rows], Metrics]
    dissect: Dissect  # what the train step does, row by row
    gradients: Gradients  # of the train step, without the update
    forward: dict[str, Callable[[Any, Rows], Any]]  # of the student, and of the teachers that losses compare with
    teachers: dict[str, Any]  # parameters, by name
    rows_per_device: int
    fits: Fits
    flops: dict[str, float]  # of an update: what is asked, and what a head at every token would ask

    def place(self, batch: dict[str, np.ndarray]) -> Rows:
        return Rows(**place(batch, self.mesh))


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
    for who, cfg in {"student": student.cfg, **({"teacher": teacher.cfg} if teacher else {})}.items():
        demand_divides(cfg, mesh, who=who)
    train, held_out = (batches.Shards(corpus.folder, corpus.shards[side]) for side in (TRAIN, HELD_OUT))
    held_out_rows = min(experiment.eval_rows, len(held_out))

    tx = experiment.optimizer.transformation(experiment.steps)
    of_losses = first_params(
        experiment.losses,
        seed=experiment.seed,
        student_size=student.cfg.hidden_size,
        teacher_size=teacher.cfg.hidden_size if teacher else None,
    )
    params = {"student": student.params, "losses": of_losses}
    steps = _steps(experiment, inputs, tx, mesh)
    state = start(params, tx, mesh, dtype=experiment.dtype)
    teachers = {"teacher": in_type(teacher.params, experiment.dtype)} if teacher else {}
    teachers = jax.device_put(teachers, shardings(teachers, mesh))
    fits = Fits(
        step=steps["train_step"],
        state=state,
        teachers=teachers,
        global_batch=experiment.global_batch,
        length=experiment.corpus.row_length,
        mesh=mesh,
    )
    at_once = fits.most() if experiment.rows_per_device == "auto" else experiment.rows_per_device
    accumulation, rows = split(experiment.global_batch, rows_per_device=at_once, devices=row_devices(mesh))
    layout = batches.Layout(accumulation=accumulation, rows=rows, process=jax.process_index(), of=jax.process_count())
    return DistillSetup(
        mesh=mesh,
        state=state,
        batches=batches.Batches(shards=train, seed=experiment.seed, steps=experiment.steps, layout=layout),
        held_out=lambda: batches.in_order(held_out, count=held_out_rows, layout=layout),
        held_out_rows=held_out_rows,
        **steps,
        teachers=teachers,
        rows_per_device=rows // row_devices(mesh),
        fits=fits,
        flops=flops(experiment, teacher.cfg if teacher else None, student.cfg),
    )


def flops(experiment: Experiment, teacher: TransformerConfig | None, student: TransformerConfig) -> dict[str, float]:
    """By the names of the log. A teacher that no loss reads costs nothing."""
    length = experiment.corpus.row_length
    of = lambda everywhere: float(
        cost_model.of_update(
            student,
            teacher if experiment.taught_by else None,
            rows=experiment.global_batch,
            length=length,
            places=masking.places(length, share=experiment.masking.share, everywhere=everywhere),
        )
    )
    return {log_keys.MFU.name: of(experiment.asks_everywhere), log_keys.MFU_ALL_POSITIONS.name: of(True)}


def _steps(
    experiment: Experiment, inputs: DistillInputs, tx: optax.GradientTransformation, mesh: Mesh
) -> dict[str, Any]:
    """Returns the functions of a DistillSetup that run on the devices, by field name."""
    cfgs = {"student": with_attention(computed(inputs.student.cfg, experiment), who="student")}
    if inputs.teacher:
        cfgs["teacher"] = with_attention(computed(inputs.teacher.cfg, experiment), who="teacher")
    ask = make_corpus_masking(inputs.corpus, experiment.masking, all_positions=experiment.asks_everywhere)
    objective = make_objective(experiment, cfgs, ask)
    gradients = make_gradients(objective, mesh)
    train_step = make_train_step(gradients, tx, mesh)
    programs = {
        "gradients": gradients,
        "eval_step": make_eval_step(_measured(inputs.corpus, cfgs), mesh),
        "dissect": make_dissect(objective, mesh),
        "forward": {
            name: make_forward(model, ask=ask, mesh=mesh, seed=experiment.seed, learns=name == "student")
            for name, model in {**objective.teachers, "student": objective.student}.items()
        },
    }
    return {"train_step": jax.jit(train_step, donate_argnums=0)} | jax.tree.map(jax.jit, programs)


def _measured(corpus: Prepared, cfgs: Mapping[str, TransformerConfig]) -> Objective:
    """What held-out rows are asked: the same of every run, whatever it learns from."""
    taught = "teacher" in cfgs
    return Objective(
        student=masked_lm(cfgs["student"]),
        teachers={"teacher": masked_lm(cfgs["teacher"])} if taught else {},
        losses={},
        watched={**metrics.STUDENT, **(metrics.TEACHER | metrics.BOTH if taught else {})},
        ask=make_corpus_masking(corpus, EVAL_MASKING, all_positions=False),
        seed=EVAL_SEED,
    )


def make_objective(experiment: Experiment, cfgs: Mapping[str, TransformerConfig], ask: Ask) -> Objective:
    """Of the shapes of "student" and "teacher", as they are computed."""
    return Objective(
        student=masked_lm(cfgs["student"]),
        teachers={name: masked_lm(cfgs[name]) for name in experiment.taught_by},
        losses=experiment.losses,
        watched=metrics.TEACHER if experiment.taught_by else {},
        ask=ask,
        seed=experiment.seed,
    )


def computed(cfg: TransformerConfig, experiment: Experiment) -> TransformerConfig:
    return dataclasses.replace(cfg, dtype=experiment.dtype, remat=experiment.remat)


def masked_lm(cfg: TransformerConfig) -> Apply:
    apply: Any = MaskedLM(cfg).apply
    return apply


def in_type(params: Any, dtype: str) -> Any:
    """A teacher's matrices in the type that products round them to anyhow: half the memory, and the same numbers."""
    rounds = lambda path: path[-1].key == "kernel"
    return jax.tree_util.tree_map_with_path(lambda path, x: x.astype(dtype, copy=False) if rounds(path) else x, params)


def make_corpus_masking(corpus: Prepared, config: Masking, *, all_positions: bool) -> Ask:
    """Returns the function that masks rows of a corpus, as `make_masking` does."""
    tokenizer = corpus.tokenizer
    return make_masking(
        config, corpus.words, mask_id=tokenizer.mask, special_ids=tokenizer.special, all_positions=all_positions
    )


def make_masking(
    config: Masking, token_counts: np.ndarray, *, mask_id: int, special_ids: Sequence[int], all_positions: bool
) -> Ask:
    """Returns the function that masks rows and makes a batch of predictions of them.

    Args:
        config: how many tokens are masked, and how much rare ones are preferred.
        token_counts: [v], how often each token of the vocabulary occurs in the corpus.
        mask_id: the id of [MASK].
        special_ids: ids that are never masked.
        all_positions: whether every token is a prediction, or only the masked ones.
    """
    masker = masking.MaskedWords(mask_id=mask_id, words=len(token_counts), share=config.share, everywhere=all_positions)
    counts, special = jnp.asarray(token_counts, jnp.float32), jnp.asarray(special_ids)
    preference = masking.log_preference(counts, special, smoothing=config.smoothing)

    def make_batch(keys: RowKeys, rows: Rows) -> Batch:
        return masker(keys, rows, preference)

    return make_batch
