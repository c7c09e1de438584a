"""A task, seed after seed, over the step of pretraining. Effects are here and in the loop of pretraining only."""

import contextlib
import itertools
import pathlib
from typing import Any, TypedDict

import jax
import numpy as np

from distilbert_jax import log_keys
from distilbert_jax.config.experiment_file import describe, differences, flatten
from distilbert_jax.config.finetune import RESUMABLE_FIELDS, FineTune
from distilbert_jax.data.tasks.batches import TaskBatches, padded_length
from distilbert_jax.data.tasks.registry import Task
from distilbert_jax.devices.mesh import place, replicated
from distilbert_jax.devices.peak import peak
from distilbert_jax.hub import model_card, save
from distilbert_jax.inference.logits import score
from distilbert_jax.io import files
from distilbert_jax.io.console import bar, console
from distilbert_jax.runtime.checkpoint import Checkpoints
from distilbert_jax.runtime.metrics_log import Log
from distilbert_jax.runtime.metrics_log import read as read_log
from distilbert_jax.runtime.step_monitor import Meter, Work, timed
from distilbert_jax.runtime.stop_signal import Stop, Stopped
from distilbert_jax.train.finetune.results import (
    CONFIG_FILE,
    FINETUNE_FORMAT,
    PER_EXAMPLE_FILE,
    StoredConfig,
    read_config,
    read_result,
)
from distilbert_jax.train.finetune.setup import Split, Tuning, build
from distilbert_jax.types import Batch

LOG_EVERY = 10  # steps


class Result(TypedDict):
    """What of a seedN.json is read again."""

    task: str
    main_score: float
    best_epoch: int


def finetune(plan: FineTune, task: Task, *, folder: pathlib.Path, seeds: int) -> list[dict[str, Any]]:
    """Fine-tunes once for each seed 0, 1, … and returns their results, which stand in `folder` as seedN.json beside
    the model of the best epoch, seedN/model.

    The same call goes on where an earlier one ended. Raises ValueError for bad input or where the folder holds results
    of another config, `Stopped` where a signal ended it.
    """
    with files.alone_in(folder):
        paths = [folder / f"seed{seed}.json" for seed in range(seeds)]
        _refuse_another(folder, flatten(plan))
        for path in paths:
            if path.is_file():
                files.remove(path.with_suffix("") / "checkpoints")  # a kill may have left them
        if not all(path.is_file() for path in paths):
            tuning = build(plan, task)
            _claim(folder, tuning)
            _announce(tuning)
            _all_seeds(tuning, paths)
        return [read_result(path, Result) for path in paths]


def _all_seeds(tuning: Tuning, paths: list[pathlib.Path]) -> None:
    """The results that are missing, one after the other."""
    with Stop(tuning.mesh) as stop:
        for seed, path in enumerate(paths):
            if not path.is_file():
                files.write_json(path, _one_seed(tuning, seed, path.with_suffix(""), stop))
                files.remove(path.with_suffix("") / "checkpoints")
            if stop.signal is not None:
                raise Stopped(stop.signal, step=tuning.steps, folder=path.with_suffix(""))


def answer(tuning: Tuning, params: Any, split: Split, *, label: str) -> list[Any]:
    """One answer an example of a split."""
    rows = split.encoded.rows
    scores = score(tuning.scorer, params, rows, layout=tuning.layout, mesh=tuning.mesh, label=label)
    return tuning.form.answers(split.examples, rows, scores)


def _claim(folder: pathlib.Path, tuning: Tuning) -> None:
    """Writes down whose folder this is, once it is known that model, teacher and task fit together."""
    models = {"model": tuning.model} | ({"teacher": tuning.teacher} if tuning.teacher else {})
    config, sha256 = flatten(tuning.plan), {name: model.sha256 for name, model in models.items()}
    _refuse_another(folder, config, sha256)
    files.write_json(folder / CONFIG_FILE, StoredConfig(format=FINETUNE_FORMAT, config=config, sha256=sha256))


def _refuse_another(folder: pathlib.Path, config: dict[str, Any], sha256: dict[str, str] | None = None) -> None:
    """Raises ValueError if the folder holds results of another config, or of other weights where `sha256` is given."""
    stored = read_config(folder)
    if stored is None:
        return
    different = differences(stored["config"], config, except_in=RESUMABLE_FIELDS)
    if sha256 is not None:
        other_weights = differences(stored["sha256"], sha256)
        different |= {f"sha256.{name}": pair for name, pair in other_weights.items()}
    if different:
        lines = [f"\n  {path}: {there} there, {wanted} wanted" for path, (there, wanted) in different.items()]
        raise ValueError(
            f"{folder} holds results of another config; name another folder with --output-dir:{''.join(lines)}"
        )


def _announce(tuning: Tuning) -> None:
    console.print(f"{tuning.plan.task}: train {tuning.train.encoded.in_words()}", markup=False)
    for name, split in tuning.dev.items():
        console.print(f"  {name} {split.encoded.in_words()}", markup=False)
    if tuning.plan.random_start:
        console.print("[bold yellow]  random start: every weight is drawn anew for each seed[/]")
    elif tuning.new_layers:
        console.print(
            f"[bold yellow]  new, untrained layers: {', '.join(tuning.new_layers)}: {tuning.model.folder} has none for "
            "this task[/]"
        )


def _one_seed(tuning: Tuning, seed: int, folder: pathlib.Path, stop: Stop) -> dict[str, Any]:
    """Trains, measures every epoch, and keeps the model of the best. Returns what is to know of it."""
    plan = tuning.plan
    batches = TaskBatches(rows=tuning.train.encoded.rows, seed=seed, size=plan.batch, layout=tuning.layout)
    teachers = {"teacher": jax.device_put(tuning.teacher.params, replicated(tuning.mesh))} if tuning.teacher else {}
    with contextlib.closing(Checkpoints(folder / "checkpoints", keep=2)) as checkpoints:
        fresh = tuning.start(seed)
        state, done = checkpoints.restore(fresh) or (fresh, 0)
        with Log(folder, start=done) as log:
            meter = Meter(
                log,
                checkpoints,
                losses=plan.losses,
                schedule=plan.optimizer.schedule(tuning.steps),
                log_every=LOG_EVERY,
                peak=peak(plan.dtype),
            )
            with bar(f"{plan.task}, seed {seed}", total=tuning.steps) as advance:
                for step, (batch, waited) in enumerate(timed(_rest(batches, plan.epochs, done)), done + 1):
                    rows = Batch(**place(batch, tuning.mesh))
                    asked = stop.ask()
                    state, metrics = tuning.train_step(state, teachers, rows, seed)
                    meter.after(step, metrics, waited, work=Work.of(batch, tuning.flops(batch)))
                    ending = asked()
                    epoch_ends = step % len(batches) == 0
                    if epoch_ends or ending is not None:
                        meter.catch_up()
                        if epoch_ends:
                            log.write("eval", step, _measure(tuning, state.params["student"], folder, log, step))
                        log.flush()
                        checkpoints.save(state, step=step)
                        meter.restart()
                    advance(step, meter.note)
                    if ending is not None and step < tuning.steps:
                        checkpoints.wait()
                        raise Stopped(ending, step=step, folder=folder)
    return _result(tuning, seed, folder)


def _rest(batches: TaskBatches, epochs: int, done: int) -> Any:
    """The batches after the first `done`."""
    epoch, skipped = divmod(done, len(batches))
    chain = itertools.chain.from_iterable(batches.epoch(number) for number in range(epoch, epochs))
    return itertools.islice(chain, skipped, None)


def _measure(tuning: Tuning, params: Any, folder: pathlib.Path, log: Log, step: int) -> dict[str, float]:
    """Every score on every dev split; the model and its answers are kept where the main score is the best so far."""
    log.flush()
    earlier = [entry[log_keys.MAIN_SCORE.name] for entry in _evaluations(folder) if entry["step"] < step]
    scores: dict[str, float] = {}
    per_example: dict[str, Any] = {}
    for name, split in tuning.dev.items():
        answers = answer(tuning, params, split, label=f"measuring {name}")
        of_examples = tuning.form.units(split.examples, answers)
        per_example[name] = of_examples.tolist()
        measured = tuning.form.measure(of_examples)
        scores |= {log_keys.TASK_SCORE.name(split=name, metric=metric): value for metric, value in measured.items()}
    main_scores = [scores[log_keys.TASK_SCORE.name(split=name, metric=tuning.form.headline)] for name in tuning.dev]
    main_score = float(np.mean(main_scores))
    if not earlier or main_score > max(earlier):
        _keep(tuning, params, folder, scores)
        files.write_json(folder / PER_EXAMPLE_FILE, per_example)
    return {log_keys.MAIN_SCORE.name: main_score, **scores}


def _evaluations(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Returns what has been logged of every epoch, in order."""
    return read_log(folder, "eval", wanted=[log_keys.MAIN_SCORE.name])


def _keep(tuning: Tuning, params: Any, folder: pathlib.Path, scores: dict[str, float]) -> None:
    family, plan = tuning.model.family, tuning.plan
    named = f"`{plan.model.folder}`"
    save.write(
        folder / "model",
        family=family,
        cfg=tuning.model.cfg,
        params=jax.device_get(params),
        tokenizer=tuning.model.tokenizer,
        card=model_card.of_task(
            task=plan.task,
            model_type=family.MODEL_TYPE,
            start=f"Random weights in the shape of {named}," if plan.random_start else named,
            teacher=plan.teacher.folder if plan.teacher else None,
            base_model=None if plan.random_start else tuning.model.hub_id,
            head=tuning.form.head,
            measured=scores,
            description=describe(plan),
        ),
        head=tuning.form.head,
        head_cfg=tuning.model.head_cfg,
    )


def _result(tuning: Tuning, seed: int, folder: pathlib.Path) -> dict[str, Any]:
    epochs, main_score = _evaluations(folder), log_keys.MAIN_SCORE.name
    best = max(epochs, key=lambda entry: entry[main_score])
    per_epoch = tuning.steps // tuning.plan.epochs
    console.print(f"{tuning.plan.task}, seed {seed}: {best[main_score]:.2f} after epoch {best['step'] // per_epoch}")
    return {
        "format": FINETUNE_FORMAT,
        "task": tuning.plan.task,
        "seed": seed,
        "main_score": best[main_score],
        "scores": {name: value for name, value in best.items() if log_keys.TASK_SCORE.match(name)},
        "best_epoch": best["step"] // per_epoch,
        "epochs": [entry[main_score] for entry in epochs],
        "config": flatten(tuning.plan),
        "task_type": {
            "head": tuning.form.head,
            "problem_type": tuning.form.problem_type,
            "labels": list(tuning.form.labels),
            "metrics": [metric.__name__ for metric in getattr(tuning.form, "metrics", ())],
        },
        "model_sha256": tuning.model.sha256,
        "teacher_sha256": tuning.teacher.sha256 if tuning.teacher else None,
        "parameters": tuning.parameters,
        "train_examples": len(tuning.train.examples),
        "train_rows": tuning.train.encoded.in_words(),
        "dev_examples": {name: len(split.examples) for name, split in tuning.dev.items()},
        "compiled_for_lengths": sorted({padded_length(len(row.tokens)) for row in tuning.train.encoded.rows}),
        "jax": jax.__version__,
    }
