"""What the loop turns: the state on its devices, the rows, and the steps, not compiled before their first call."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from distilbert_jax import log_keys
from distilbert_jax.config.experiment import Experiment
from distilbert_jax.data import batches, masking
from distilbert_jax.data.shards.prepare import Prepared
from distilbert_jax.data.shards.splits import HELD_OUT, TRAIN
from distilbert_jax.devices.mesh import make_mesh, place, row_devices, split
from distilbert_jax.devices.sharding import demand_divides, shardings
from distilbert_jax.heads.masked_lm import MaskedLM
from distilbert_jax.hub.load import Model
from distilbert_jax.losses import metrics
from distilbert_jax.losses.base import first_params
from distilbert_jax.models import cost_model
from distilbert_jax.models.attention_kernel import with_attention
from distilbert_jax.models.transformer import TransformerConfig
from distilbert_jax.train.distill.models import StudentModel
from distilbert_jax.train.memory_fit import Fits
from distilbert_jax.train.objective import Ask, Objective
from distilbert_jax.train.step import Gradients, make_eval_step, make_forward, make_gradients, make_train_step, start
from distilbert_jax.train.step_inspection import Dissect, make_dissect
from distilbert_jax.types import Apply, Metrics, Rows, TrainState

EVAL_SEED = 20_191_002  # of the held-out masks: the same for every run and every model
EVAL_SHARE = 0.15


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """All that the loop turns."""

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


def build(experiment: Experiment, teacher: Model | None, student: StudentModel, prepared: Prepared) -> Run:
    """Puts parameters on the devices, checks the shards, and makes the steps."""
    mesh = make_mesh(fsdp=experiment.fsdp, tensor=experiment.tensor)
    for who, cfg in {"student": student.cfg, **({"teacher": teacher.cfg} if teacher else {})}.items():
        demand_divides(cfg, mesh, who=who)
    train, held_out = (batches.Shards(prepared.folder, prepared.shards[side]) for side in (TRAIN, HELD_OUT))
    held_out_rows = min(experiment.eval_rows, len(held_out))

    tx = experiment.optimizer.transformation(experiment.steps)
    of_losses = first_params(
        experiment.losses,
        seed=experiment.seed,
        student_size=student.cfg.hidden_size,
        teacher_size=teacher.cfg.hidden_size if teacher else None,
    )
    params = {"student": student.params, "losses": of_losses}
    steps = _steps(experiment, teacher, student, prepared, mesh)
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
    return Run(
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
    experiment: Experiment, teacher: Model | None, student: StudentModel, prepared: Prepared, mesh: Mesh
) -> dict[str, Any]:
    """What of a Run is a function on the devices."""
    cfgs = {"student": with_attention(computed(student.cfg, experiment), who="student")}
    if teacher:
        cfgs["teacher"] = with_attention(computed(teacher.cfg, experiment), who="teacher")
    ask = _ask(
        prepared,
        share=experiment.masking.share,
        smoothing=experiment.masking.smoothing,
        everywhere=experiment.asks_everywhere,
    )
    objective = make_objective(experiment, cfgs, ask)
    gradients = make_gradients(objective, mesh)
    train_step = make_train_step(gradients, experiment.optimizer.transformation(experiment.steps), mesh)
    programs = {
        "gradients": gradients,
        "eval_step": make_eval_step(_measured(prepared, cfgs), mesh),
        "dissect": make_dissect(objective, mesh),
        "forward": {
            name: make_forward(model, ask=ask, mesh=mesh, seed=experiment.seed, learns=name == "student")
            for name, model in {**objective.teachers, "student": objective.student}.items()
        },
    }
    return {"train_step": jax.jit(train_step, donate_argnums=0)} | jax.tree.map(jax.jit, programs)


def _measured(prepared: Prepared, cfgs: Mapping[str, TransformerConfig]) -> Objective:
    """What held-out rows are asked: the same of every run, whatever it learns from."""
    taught = "teacher" in cfgs
    return Objective(
        student=masked_lm(cfgs["student"]),
        teachers={"teacher": masked_lm(cfgs["teacher"])} if taught else {},
        losses={},
        watched={**metrics.STUDENT, **(metrics.TEACHER | metrics.BOTH if taught else {})},
        ask=_ask(prepared, share=EVAL_SHARE, smoothing=0.0, everywhere=False),
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


def _ask(prepared: Prepared, *, share: float, smoothing: float, everywhere: bool) -> Ask:
    tokenizer = prepared.tokenizer
    words = masking.MaskedWords(mask_id=tokenizer.mask, words=tokenizer.size, share=share, everywhere=everywhere)
    counts, special = jnp.asarray(prepared.words, jnp.float32), jnp.asarray(tokenizer.special)
    preference = masking.log_preference(counts, special, smoothing=smoothing)
    return lambda keys, rows: words(keys, rows, preference)
