"""Fine-tunes a model on a task, one seed after the other, with the train step that distillation uses."""

import contextlib
import itertools
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from distilbert_jax import log_keys
from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.config.experiment_file import flatten
from distilbert_jax.config.finetune import FineTuneConfig
from distilbert_jax.data.tasks.batches import TaskBatches, padded_length
from distilbert_jax.data.tasks.registry import Task
from distilbert_jax.data.tasks.task_types.base import format_main_metric
from distilbert_jax.devices.mesh import put_batch, replicated_sharding
from distilbert_jax.devices.peak import peak_flops
from distilbert_jax.hub import model_card, save
from distilbert_jax.hub.load import load_pretrained
from distilbert_jax.inference.logits import predict_rows
from distilbert_jax.io import files
from distilbert_jax.io.console import console, print_warning, progress_bar
from distilbert_jax.io.folder_marker import hold_folder, write_marker
from distilbert_jax.runtime.checkpoint import Checkpoints
from distilbert_jax.runtime.metrics_log import MetricsLog, read_log
from distilbert_jax.runtime.step_monitor import StepMonitor, StepWork, time_waits
from distilbert_jax.runtime.stop_signal import RunStopped, StopSignal
from distilbert_jax.train.finetune.results import (
    CONFIG_FILE,
    PER_EXAMPLE_FILE,
    ResultOrigin,
    check_same_config,
    check_same_origin,
    read_config,
    read_result,
)
from distilbert_jax.train.finetune.setup import EncodedSplit, FineTuneSetup, load_inputs, setup_finetuning
from distilbert_jax.types import Batch

LOG_EVERY = 10  # steps


class SeedResult(ResultOrigin):
    """The fields of seedN.json that are read again."""

    task: str
    main_metric: str
    main_score: float
    best_epoch: int


def finetune(config: FineTuneConfig, task: Task, *, folder: pathlib.Path, seeds: int) -> list[dict[str, Any]]:
    """Fine-tunes once for each seed 0, 1, … and returns the results of all seeds.

    The results are written to `folder` as seedN.json, and the model of the best epoch as seedN/model. If an earlier
    call was interrupted, the same call continues from there.

    Args:
        config: the model, the task and the hyperparameters.
        task: the task that `config` names, with its files.
        folder: the folder for the results of this task.
        seeds: how many seeds to run.

    Raises:
        ValueError: the input is not valid, or `folder` holds results of other settings, models or examples.
        RunStopped: a signal ended the call. Everything is saved.
    """
    folder = files.expand_path(folder)
    stored = read_config(folder)  # first, because it explains what to do with a folder of an earlier version
    with hold_folder(folder, "finetune", setting="--output-dir FOLDER"):
        paths = [folder / f"seed{seed}.json" for seed in range(seeds)]
        if stored is not None:
            # This needs no data, so it comes before they are read.
            check_same_config(folder, stored, flatten(config))
        inputs = load_inputs(config, task)
        if stored is not None:
            check_same_origin(folder, stored, inputs.origin)
        for path in paths:
            if path.is_file():
                check_same_origin(path, read_result(path, SeedResult), inputs.origin)
                # The process may have been killed after it wrote the result and before it deleted these.
                files.remove(path.with_suffix("") / "checkpoints")
        if not all(path.is_file() for path in paths):
            setup = setup_finetuning(inputs)
            # The folder is claimed only once it is known that model, teacher and task fit together.
            write_marker(folder, "finetune")
            files.write_json(folder / CONFIG_FILE, inputs.origin)
            _print_setup(setup)
            _run_missing_seeds(setup, paths)
        return [read_result(path, SeedResult) for path in paths]


def _run_missing_seeds(setup: FineTuneSetup, paths: list[pathlib.Path]) -> None:
    """Runs the seeds that have no result file yet, one after the other."""
    with StopSignal(setup.mesh) as stop:
        for seed, path in enumerate(paths):
            if not path.is_file():
                files.write_json(path, _run_seed(setup, seed, path.with_suffix(""), stop))
                files.remove(path.with_suffix("") / "checkpoints")
            if stop.signal is not None:
                raise RunStopped(stop.signal, step=setup.steps, folder=path.with_suffix(""))


def predict_split(setup: FineTuneSetup, params: Any, split: EncodedSplit, *, label: str) -> list[Any]:
    """Returns the model's answer for each example of a split; `label` is shown by the progress bar."""
    rows = split.encoded.rows
    logits = predict_rows(setup.predict_step, params, rows, layout=setup.layout, mesh=setup.mesh, label=label)
    return setup.task_type.decode(split.examples, rows, logits)


def _print_setup(setup: FineTuneSetup) -> None:
    """Prints the size of the data, and which layers start untrained."""
    console.print(f"{setup.config.task}: train {setup.train.encoded.format_truncation()}", markup=False)
    for name, split in {**setup.dev, **setup.test}.items():
        console.print(f"  {name} {split.encoded.format_truncation()}", markup=False)
    if setup.config.random_init:
        print_warning("  random_init is true: all weights are random, and differ between the seeds.")
    elif setup.new_layers:
        removed = setup.inputs.removed_output_layer
        reason = f"was trained for other labels ({removed})" if removed else "has none for this task"
        print_warning(
            f"  These layers start untrained, because {setup.model.folder} {reason}: {', '.join(setup.new_layers)}."
        )


def _run_seed(setup: FineTuneSetup, seed: int, folder: pathlib.Path, stop: StopSignal) -> dict[str, Any]:
    """Trains one seed, evaluates after every epoch and keeps the best model. Returns the content of seedN.json."""
    config = setup.config
    batches = TaskBatches(rows=setup.train.encoded.rows, seed=seed, batch_size=config.batch_size, layout=setup.layout)
    teachers = (
        {"teacher": jax.device_put(setup.teacher.params, replicated_sharding(setup.mesh))} if setup.teacher else {}
    )
    with contextlib.closing(Checkpoints(folder / "checkpoints", keep=2)) as checkpoints:
        initial_state = setup.init_state(seed)
        state, done = checkpoints.restore(initial_state) or (initial_state, 0)
        with MetricsLog(folder, start=done) as log:
            monitor = StepMonitor(
                log,
                checkpoints,
                losses=config.losses,
                schedule=config.optimizer.make_schedule(setup.steps),
                log_every=LOG_EVERY,
                peak=peak_flops(config.dtype),
            )
            with progress_bar(f"{config.task}, seed {seed}", total=setup.steps) as advance:
                remaining = _iter_from(batches, config.epochs, done)
                for step, (batch, waited) in enumerate(time_waits(remaining), done + 1):
                    rows = Batch(**put_batch(batch, setup.mesh))
                    get_signal = stop.poll()
                    state, metrics = setup.train_step(state, teachers, rows, seed)
                    monitor.after(step, metrics, waited, work=StepWork.from_batch(batch, setup.flops(batch)))
                    received = get_signal()
                    epoch_ends = step % len(batches) == 0
                    if epoch_ends or received is not None:
                        # The log has to hold this step before its checkpoint is saved.
                        monitor.read_pending()
                        if epoch_ends:
                            scores = _evaluate(setup, state.params["student"], folder, log, step)
                            log.write("eval", step, scores)
                        log.flush()
                        checkpoints.save(state, step=step)
                        monitor.restart()
                    advance(step, monitor.note)
                    # After the last step, the result is written first; then `_run_missing_seeds` ends the run.
                    if received is not None and step < setup.steps:
                        checkpoints.wait()
                        raise RunStopped(received, step=step, folder=folder)
    return _make_result(setup, seed, folder)


def _iter_from(batches: TaskBatches, epochs: int, done: int) -> Iterator[dict[str, np.ndarray]]:
    """Yields the batches of all epochs, without the first `done`."""
    epoch, skipped = divmod(done, len(batches))
    chain = itertools.chain.from_iterable(batches.iter_epoch(number) for number in range(epoch, epochs))
    return itertools.islice(chain, skipped, None)


def _evaluate(setup: FineTuneSetup, params: Any, folder: pathlib.Path, log: MetricsLog, step: int) -> dict[str, float]:
    """Returns all scores on all dev splits, and stores the model and its answers if its main score is the best yet."""
    log.flush()  # the earlier scores are read from the file
    earlier = [entry[log_keys.MAIN_SCORE.name] for entry in _evaluations(folder) if entry["step"] < step]
    main_score, scores, per_example = _score_splits(setup, params, setup.dev)
    if not earlier or main_score > max(earlier):
        _save_model(setup, params, folder, scores)
        files.write_json(folder / PER_EXAMPLE_FILE, per_example)
    return {log_keys.MAIN_SCORE.name: main_score, **scores}


def _score_splits(
    setup: FineTuneSetup, params: Any, splits: Mapping[str, EncodedSplit]
) -> tuple[float, dict[str, float], dict[str, Any]]:
    """Returns the main score of a model on some splits, all its scores on them, and the numbers of every example."""
    scores: dict[str, float] = {}
    per_example: dict[str, Any] = {}
    for name, split in splits.items():
        answers = predict_split(setup, params, split, label=f"measuring {name}")
        numbers = setup.task_type.per_example(split.examples, answers)
        per_example[name] = numbers.tolist()
        metrics = setup.task_type.compute_metrics(numbers)
        scores |= {log_keys.TASK_SCORE.name(split=name, metric=metric): value for metric, value in metrics.items()}
    main_scores = [scores[log_keys.TASK_SCORE.name(split=name, metric=setup.task_type.main_metric)] for name in splits]
    return float(np.mean(main_scores)), scores, per_example


def _evaluations(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the log entries of all evaluations, one per epoch, in order."""
    return read_log(folder, "eval", shape=[log_keys.MAIN_SCORE.name])


def _save_model(setup: FineTuneSetup, params: Any, folder: pathlib.Path, scores: Mapping[str, float]) -> None:
    """Writes the model to `folder`/model as a Hub folder with a card."""
    family, config = setup.model.family, setup.config
    save.save_pretrained(
        folder / "model",
        family=family,
        config=setup.model.config,
        params=jax.device_get(params),
        tokenizer=setup.model.tokenizer,
        card=model_card.finetuning_card(
            task=config.task,
            model_type=family.MODEL_TYPE,
            source=setup.model.public_name,
            random_init=config.random_init,
            teacher=setup.teacher.public_name if setup.teacher else None,
            base_model=None if config.random_init else setup.model.hub_id,
            head=setup.task_type.head,
            test=list(setup.test),
            scores=scores,
            settings=flatten(config),
        ),
        head=setup.task_type.head,
        head_config=setup.model.head_config,
    )


def _measure_test(
    setup: FineTuneSetup, folder: pathlib.Path, dev_scores: Mapping[str, float]
) -> tuple[float, dict[str, float]]:
    """Measures the model of the best epoch on the test splits, and stores its answers and a card with all scores.

    Returns:
        The main score, and all scores on the test splits. They replace those on dev, which chose the epoch.
    """
    best = load_pretrained(Pretrained(str(folder / "model")), head=setup.task_type.head)
    main_score, scores, per_example = _score_splits(setup, best.params, setup.test)
    _save_model(setup, best.params, folder, {**dev_scores, **scores})
    files.write_json(folder / PER_EXAMPLE_FILE, per_example)
    return main_score, scores


def _make_result(setup: FineTuneSetup, seed: int, folder: pathlib.Path) -> dict[str, Any]:
    """Returns the content of seedN.json, and prints the best score."""
    epochs = _evaluations(folder)
    best = max(epochs, key=lambda entry: entry[log_keys.MAIN_SCORE.name])
    steps_per_epoch = setup.steps // setup.config.epochs
    best_epoch = best["step"] // steps_per_epoch
    main_score = best[log_keys.MAIN_SCORE.name]
    scores = {name: value for name, value in best.items() if log_keys.TASK_SCORE.match(name)}
    if setup.test:
        main_score, test_scores = _measure_test(setup, folder, scores)
        scores |= test_scores
    main_metric = format_main_metric(setup.task_type)
    where = f" on {' and '.join(setup.test)}" if setup.test else ""
    console.print(
        f"{setup.config.task}, seed {seed}: {main_metric} {main_score:.2f}{where} after epoch {best_epoch}",
        markup=False,
    )
    return {
        **setup.inputs.origin,
        "task": setup.config.task,
        "seed": seed,
        "main_metric": main_metric,
        "main_score": main_score,
        "scores": scores,
        "best_epoch": best_epoch,
        "epochs": [entry[log_keys.MAIN_SCORE.name] for entry in epochs],
        "task_type": {
            "head": setup.task_type.head,
            "problem_type": setup.task_type.problem_type,
            "labels": list(setup.task_type.labels),
            "metrics": [metric.__name__ for metric in getattr(setup.task_type, "metrics", ())],
        },
        "parameters": setup.parameters,
        "train_examples": len(setup.train.examples),
        "train_rows": setup.train.encoded.format_truncation(),
        "dev_examples": {name: len(split.examples) for name, split in setup.dev.items()},
        "compiled_for_lengths": sorted({padded_length(len(row.tokens)) for row in setup.train.encoded.rows}),
        "jax": jax.__version__,
    }
