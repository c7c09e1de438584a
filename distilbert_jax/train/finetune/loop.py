"""A task, seed after seed, over the step of pretraining. Effects are here and in the loop of pretraining only."""

import contextlib
import itertools
import pathlib
from typing import Any, TypedDict

import jax
import numpy as np

from distilbert_jax import log_keys
from distilbert_jax.config.experiment_file import describe, differences, flatten
from distilbert_jax.config.finetune import RESUMABLE_FIELDS, FineTuneConfig
from distilbert_jax.data.tasks.batches import TaskBatches, padded_length
from distilbert_jax.data.tasks.registry import Task
from distilbert_jax.devices.mesh import put_batch, replicated_sharding
from distilbert_jax.devices.peak import peak_flops
from distilbert_jax.hub import model_card, save
from distilbert_jax.inference.logits import predict_rows
from distilbert_jax.io import files
from distilbert_jax.io.console import console, progress_bar
from distilbert_jax.runtime.checkpoint import Checkpoints
from distilbert_jax.runtime.metrics_log import MetricsLog
from distilbert_jax.runtime.metrics_log import read_log as read_log
from distilbert_jax.runtime.step_monitor import StepMonitor, StepWork, time_waits
from distilbert_jax.runtime.stop_signal import RunStopped, StopSignal
from distilbert_jax.train.finetune.results import (
    CONFIG_FILE,
    FINETUNE_FORMAT,
    PER_EXAMPLE_FILE,
    StoredConfig,
    read_config,
    read_result,
)
from distilbert_jax.train.finetune.setup import EncodedSplit, FineTuneSetup, setup_finetuning
from distilbert_jax.types import Batch

LOG_EVERY = 10  # steps


class Result(TypedDict):
    """What of a seedN.json is read again."""

    task: str
    main_score: float
    best_epoch: int


def finetune(plan: FineTuneConfig, task: Task, *, folder: pathlib.Path, seeds: int) -> list[dict[str, Any]]:
    """Fine-tunes once for each seed 0, 1, … and returns their results, which stand in `folder` as seedN.json beside
    the model of the best epoch, seedN/model.

    The same call goes on where an earlier one ended. Raises ValueError for bad input or where the folder holds results
    of another config, `Stopped` where a signal ended it.
    """
    with files.lock_folder(folder):
        paths = [folder / f"seed{seed}.json" for seed in range(seeds)]
        _refuse_another(folder, flatten(plan))
        for path in paths:
            if path.is_file():
                files.remove(path.with_suffix("") / "checkpoints")  # a kill may have left them
        if not all(path.is_file() for path in paths):
            tuning = setup_finetuning(plan, task)
            _claim(folder, tuning)
            _announce(tuning)
            _all_seeds(tuning, paths)
        return [read_result(path, Result) for path in paths]


def _all_seeds(tuning: FineTuneSetup, paths: list[pathlib.Path]) -> None:
    """The results that are missing, one after the other."""
    with StopSignal(tuning.mesh) as stop:
        for seed, path in enumerate(paths):
            if not path.is_file():
                files.write_json(path, _one_seed(tuning, seed, path.with_suffix(""), stop))
                files.remove(path.with_suffix("") / "checkpoints")
            if stop.signal is not None:
                raise RunStopped(stop.signal, step=tuning.steps, folder=path.with_suffix(""))


def predict_split(tuning: FineTuneSetup, params: Any, split: EncodedSplit, *, label: str) -> list[Any]:
    """One answer an example of a split."""
    rows = split.encoded.rows
    scores = predict_rows(tuning.predict_step, params, rows, layout=tuning.layout, mesh=tuning.mesh, label=label)
    return tuning.task_type.decode(split.examples, rows, scores)


def _claim(folder: pathlib.Path, tuning: FineTuneSetup) -> None:
    """Writes down whose folder this is, once it is known that model, teacher and task fit together."""
    models = {"model": tuning.model} | ({"teacher": tuning.teacher} if tuning.teacher else {})
    config, sha256 = flatten(tuning.config), {name: model.sha256 for name, model in models.items()}
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


def _announce(tuning: FineTuneSetup) -> None:
    console.print(f"{tuning.config.task}: train {tuning.train.encoded.format_truncation()}", markup=False)
    for name, split in tuning.dev.items():
        console.print(f"  {name} {split.encoded.format_truncation()}", markup=False)
    if tuning.config.random_init:
        console.print("[bold yellow]  random start: every weight is drawn anew for each seed[/]")
    elif tuning.new_layers:
        console.print(
            f"[bold yellow]  new, untrained layers: {', '.join(tuning.new_layers)}: {tuning.model.folder} has none for "
            "this task[/]"
        )


def _one_seed(tuning: FineTuneSetup, seed: int, folder: pathlib.Path, stop: StopSignal) -> dict[str, Any]:
    """Trains, measures every epoch, and keeps the model of the best. Returns what is to know of it."""
    plan = tuning.config
    batches = TaskBatches(rows=tuning.train.encoded.rows, seed=seed, batch_size=plan.batch_size, layout=tuning.layout)
    teachers = (
        {"teacher": jax.device_put(tuning.teacher.params, replicated_sharding(tuning.mesh))} if tuning.teacher else {}
    )
    with contextlib.closing(Checkpoints(folder / "checkpoints", keep=2)) as checkpoints:
        fresh = tuning.init_state(seed)
        state, done = checkpoints.restore(fresh) or (fresh, 0)
        with MetricsLog(folder, start=done) as log:
            meter = StepMonitor(
                log,
                checkpoints,
                losses=plan.losses,
                schedule=plan.optimizer.make_schedule(tuning.steps),
                log_every=LOG_EVERY,
                peak=peak_flops(plan.dtype),
            )
            with progress_bar(f"{plan.task}, seed {seed}", total=tuning.steps) as advance:
                for step, (batch, waited) in enumerate(time_waits(_rest(batches, plan.epochs, done)), done + 1):
                    rows = Batch(**put_batch(batch, tuning.mesh))
                    asked = stop.poll()
                    state, metrics = tuning.train_step(state, teachers, rows, seed)
                    meter.after(step, metrics, waited, work=StepWork.from_batch(batch, tuning.flops(batch)))
                    ending = asked()
                    epoch_ends = step % len(batches) == 0
                    if epoch_ends or ending is not None:
                        meter.read_pending()
                        if epoch_ends:
                            log.write("eval", step, _measure(tuning, state.params["student"], folder, log, step))
                        log.flush()
                        checkpoints.save(state, step=step)
                        meter.restart()
                    advance(step, meter.note)
                    if ending is not None and step < tuning.steps:
                        checkpoints.wait()
                        raise RunStopped(ending, step=step, folder=folder)
    return _result(tuning, seed, folder)


def _rest(batches: TaskBatches, epochs: int, done: int) -> Any:
    """The batches after the first `done`."""
    epoch, skipped = divmod(done, len(batches))
    chain = itertools.chain.from_iterable(batches.epoch(number) for number in range(epoch, epochs))
    return itertools.islice(chain, skipped, None)


def _measure(tuning: FineTuneSetup, params: Any, folder: pathlib.Path, log: MetricsLog, step: int) -> dict[str, float]:
    """Every score on every dev split; the model and its answers are kept where the main score is the best so far."""
    log.flush()
    earlier = [entry[log_keys.MAIN_SCORE.name] for entry in _evaluations(folder) if entry["step"] < step]
    scores: dict[str, float] = {}
    per_example: dict[str, Any] = {}
    for name, split in tuning.dev.items():
        answers = predict_split(tuning, params, split, label=f"measuring {name}")
        of_examples = tuning.task_type.per_example(split.examples, answers)
        per_example[name] = of_examples.tolist()
        measured = tuning.task_type.compute_metrics(of_examples)
        scores |= {log_keys.TASK_SCORE.name(split=name, metric=metric): value for metric, value in measured.items()}
    main_scores = [
        scores[log_keys.TASK_SCORE.name(split=name, metric=tuning.task_type.main_metric)] for name in tuning.dev
    ]
    main_score = float(np.mean(main_scores))
    if not earlier or main_score > max(earlier):
        _keep(tuning, params, folder, scores)
        files.write_json(folder / PER_EXAMPLE_FILE, per_example)
    return {log_keys.MAIN_SCORE.name: main_score, **scores}


def _evaluations(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Returns what has been logged of every epoch, in order."""
    return read_log(folder, "eval", shape=[log_keys.MAIN_SCORE.name])


def _keep(tuning: FineTuneSetup, params: Any, folder: pathlib.Path, scores: dict[str, float]) -> None:
    family, plan = tuning.model.family, tuning.config
    named = f"`{plan.model.name_or_path}`"
    save.save_pretrained(
        folder / "model",
        family=family,
        config=tuning.model.config,
        params=jax.device_get(params),
        tokenizer=tuning.model.tokenizer,
        card=model_card.finetuning_card(
            task=plan.task,
            model_type=family.MODEL_TYPE,
            start=f"Random weights in the shape of {named}," if plan.random_init else named,
            teacher=plan.teacher.name_or_path if plan.teacher else None,
            base_model=None if plan.random_init else tuning.model.hub_id,
            head=tuning.task_type.head,
            measured=scores,
            description=describe(plan),
        ),
        head=tuning.task_type.head,
        head_config=tuning.model.head_config,
    )


def _result(tuning: FineTuneSetup, seed: int, folder: pathlib.Path) -> dict[str, Any]:
    epochs, main_score = _evaluations(folder), log_keys.MAIN_SCORE.name
    best = max(epochs, key=lambda entry: entry[main_score])
    per_epoch = tuning.steps // tuning.config.epochs
    console.print(f"{tuning.config.task}, seed {seed}: {best[main_score]:.2f} after epoch {best['step'] // per_epoch}")
    return {
        "format": FINETUNE_FORMAT,
        "task": tuning.config.task,
        "seed": seed,
        "main_score": best[main_score],
        "scores": {name: value for name, value in best.items() if log_keys.TASK_SCORE.match(name)},
        "best_epoch": best["step"] // per_epoch,
        "epochs": [entry[main_score] for entry in epochs],
        "config": flatten(tuning.config),
        "task_type": {
            "head": tuning.task_type.head,
            "problem_type": tuning.task_type.problem_type,
            "labels": list(tuning.task_type.labels),
            "metrics": [metric.__name__ for metric in getattr(tuning.task_type, "metrics", ())],
        },
        "model_sha256": tuning.model.sha256,
        "teacher_sha256": tuning.teacher.sha256 if tuning.teacher else None,
        "parameters": tuning.parameters,
        "train_examples": len(tuning.train.examples),
        "train_rows": tuning.train.encoded.format_truncation(),
        "dev_examples": {name: len(split.examples) for name, split in tuning.dev.items()},
        "compiled_for_lengths": sorted({padded_length(len(row.tokens)) for row in tuning.train.encoded.rows}),
        "jax": jax.__version__,
    }
