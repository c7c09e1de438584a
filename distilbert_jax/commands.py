"""What each command runs: a few lines each. What they need is imported here inside, so that `--help` answers before jax
is imported.
"""

import argparse
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distilbert_jax.data.tasks.catalogue import Task


def distill(args: argparse.Namespace) -> None:
    from distilbert_jax.train import hosts, loop
    from distilbert_jax.train.command import Command

    if not args.debug:
        _quiet_orbax()
    if args.process:
        hosts.join(args.process)
    command = Command(file=args.file, overrides=tuple(args.overrides), smoke=args.smoke)
    folder = loop.distill(command.experiment(), command=command, profile=args.profile)
    if hosts.is_first():
        _show(folder)


def prepare(args: argparse.Namespace) -> None:
    from distilbert_jax import experiment_file
    from distilbert_jax.data.prepare import prepare
    from distilbert_jax.hub import read

    experiment = experiment_file.override(experiment_file.load(args.file), args.overrides)
    engine = None
    if args.cluster:
        from distilbert_jax.data.cluster import Cluster

        engine = Cluster(args.cluster)
    prepare(experiment.corpus, read.tokenizer(experiment.start), engine)


def speed(args: argparse.Namespace) -> None:
    from distilbert_jax.evaluate.parts import breakdown
    from distilbert_jax.train.command import Command

    breakdown(Command(file=args.file, overrides=tuple(args.overrides), smoke=args.smoke).experiment())


def plan(args: argparse.Namespace) -> None:
    if args.topology:
        _quiet_libtpu()
    from distilbert_jax import experiment_file
    from distilbert_jax.evaluate import topology
    from distilbert_jax.evaluate.plan import plan

    experiment = experiment_file.override(experiment_file.load(args.file), args.overrides)
    if args.topology:
        target = topology.tpu(args.topology)
    elif args.device:
        target = topology.gpus(args.device, args.count)
    else:
        target = topology.at_hand_devices()
    plan(experiment, target, price=args.price)


def replay(args: argparse.Namespace) -> None:
    from distilbert_jax.train.replay import replay

    if not args.debug:
        _quiet_orbax()
    replay(_at_hand(args.run), step=args.step)


def finetune(args: argparse.Namespace) -> None:
    from distilbert_jax import experiment_file
    from distilbert_jax.config import Pretrained, fine_tune
    from distilbert_jax.evaluate import retention_report
    from distilbert_jax.train.finetune import finetune

    if not args.debug:
        _quiet_orbax()
    into = pathlib.Path(args.into) if args.into else _run_of(args.model) / "tasks"
    teacher = Pretrained(args.teacher) if args.teacher else None
    results = []
    for task, folder in _tasks(args.task):
        plan = fine_tune(task, folder=folder, model=Pretrained(args.model), teacher=teacher, beside=args.loss)
        plan = experiment_file.override(plan, [*args.overrides, *([f"windows={args.windows}"] if args.windows else [])])
        results += finetune(plan, task, folder=into / task.name, seeds=args.seeds)
    retention_report.show_runs(results)


def evaluate(args: argparse.Namespace) -> None:
    from distilbert_jax.config import Pretrained
    from distilbert_jax.evaluate.task import evaluate

    for task, _ in _tasks(args.task):
        evaluate(
            Pretrained(args.model),
            task,
            split=args.split,
            into=pathlib.Path(args.into),
            windows=args.windows,
            threshold=args.threshold,
        )


def retention(args: argparse.Namespace) -> None:
    from distilbert_jax.evaluate import retention_report

    named = {}
    for text in args.results:
        name, equals, folder = text.partition("=")
        if not equals or name in named:
            raise ValueError(f"{text}: write NAME=FOLDER, each name once, such as teacher=runs/teacher/tasks")
        named[name] = pathlib.Path(folder)
    if len(named) < 2:
        raise ValueError("a teacher and at least one student are needed, the teacher first")
    retention_report.write(named, pathlib.Path(args.into), tasks=args.task)


def _tasks(named: Sequence[str]) -> list[tuple["Task", str]]:
    """(task, its folder) of each NAME=FOLDER, or NAME alone of TFDS."""
    from distilbert_jax.data.tasks import catalogue

    tasks = []
    for text in named:
        name, equals, folder = text.partition("=")
        task = catalogue.find(name, pathlib.Path(folder)) if equals else catalogue.find_in_tfds(name)
        tasks.append((task, folder or "TFDS"))
    return tasks


def _run_of(model: str) -> pathlib.Path:
    """The run that exported a model, or else a folder with its name under runs/."""
    from distilbert_jax import storage

    folder = pathlib.Path(model)
    run = folder.parent if folder.name == "export" else pathlib.Path("runs") / folder.name
    return pathlib.Path("runs") / run.name if storage.is_address(model) else run


def report(args: argparse.Namespace) -> None:
    _show(_at_hand(args.run))


def _at_hand(run: str) -> pathlib.Path:
    """A run's folder; of one in a store, the copy here, as the store has it now."""
    from distilbert_jax import storage

    if stored := storage.at(run):
        from distilbert_jax.train.stored import bring

        bring(stored, every=True)
    return storage.local(run)


def _show(folder: pathlib.Path) -> None:
    from distilbert_jax.evaluate import report

    report.show(folder)


def _quiet_orbax() -> None:
    """It logs a traceback of what it then raises; to say it once, in words, is enough."""
    import warnings

    from absl import logging

    logging.set_verbosity(logging.FATAL)
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)


def _quiet_libtpu() -> None:
    """Keeps the compiler for TPUs from looking for some in vain, and from saying so. Has to come before jax is
    imported.
    """
    import os

    none = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_ACCELERATOR_TYPE": "v5litepod-8"}
    os.environ.update({"JAX_PLATFORMS": "cpu"} | none | dict(os.environ))
