"""The commands of the command line, their arguments, and what they say of themselves."""

import argparse
from collections.abc import Callable

from distilbert_jax import commands

Run = Callable[[argparse.Namespace], None]
Command = Callable[[str, Run, str], argparse.ArgumentParser]
"""(name, what runs it, what it says of itself) -> its parser."""

_DESCRIPTION = """Distil small encoders from large ones, in JAX.

  python -m distilbert_jax distill experiments/quickstart.py
  python -m distilbert_jax distill experiments/distilbert_base_uncased.py workdir=runs/mine steps=1000

Exit status: 0 done; 1 bad input or trouble with the disk; 2 wrong usage; 128 + n ended by signal n, such as 143 by
SIGTERM: training saves within a step, a second signal ends at once, and the same command goes on.

Compiled programs are kept in ~/.cache/distilbert_jax/compiled; JAX_COMPILATION_CACHE_DIR names another folder.
"""
_FILE = "an experiment file, such as experiments/quickstart.py; it is code, so run only those you trust"
_OVERRIDES = (
    "fields of the experiment to change: steps=1000 losses.soft.temperature=4 teacher=FOLDER_OR_ID workdir=DIR; "
    "folders may be gs:// and s3:// addresses"
)
_PLAN = "fields of the plan to change: epochs=5 optimizer.peak_lr=1e-4 losses.soft.temperature=4"
_TASK_HELP = (
    "a task and the folder of its files as they were released (of TensorFlow Datasets, where that is left out): cola "
    "sst2 mrpc qqp stsb mnli qnli rte wnli ax imdb squad squad2 conll2003 wnut17 swag codah piqa; any other name is a "
    "task of your own, with train.csv and dev.csv, or .jsonl, of columns text, text_pair if there are two, and label, "
    "score, labels or probabilities. May be given several times"
)


def parser() -> argparse.ArgumentParser:
    """The commands and their help."""
    top = argparse.ArgumentParser(
        prog="python -m distilbert_jax", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--debug", action="store_true", help="show the traceback of an error")
    subparsers = top.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Run, text: str) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(name, help=text.split(".")[0].lower(), description=text)
        sub.set_defaults(command=run)
        sub.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
        )
        return sub

    _add_pretraining(command)
    _add_looking_back(command)
    _add_tasks(command)
    _add_retention(command)
    return top


def _add_pretraining(command: Command) -> None:
    distill = command(
        "distill",
        commands.distill,
        "Train a student, export it and report. The same command goes on where an earlier one ended.",
    )
    prepare = command(
        "prepare",
        commands.prepare,
        "Make the shards of an experiment's corpus. distill does it by itself where they are missing.",
    )
    for sub in (distill, prepare):
        _add_experiment(sub)
    prepare.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="on the nodes of a Ray cluster, which see the same files: HOST:PORT of its head, or auto",
    )
    distill.add_argument(
        "--profile",
        metavar="FIRST:LAST",
        type=_steps,
        default=range(0),
        help="write a device trace of these steps, such as 20:25, to profile/ in the run's folder",
    )
    alone = distill.add_mutually_exclusive_group()
    alone.add_argument(
        "--smoke",
        metavar="FOLDER",
        type=_folder,
        help="run four steps on a tiny random model, all in FOLDER: shows in a minute that the experiment runs",
    )
    alone.add_argument(
        "--process",
        metavar="I/N@HOST:PORT",
        help="this is process I of N, of which process 0 listens at HOST:PORT; auto, where JAX finds the others by "
        "itself: Slurm, Cloud TPU, Kubernetes, Open MPI. All see the same folders, on disk or in a store",
    )


def _add_experiment(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("file", metavar="EXPERIMENT.py", help=_FILE)
    sub.add_argument("overrides", metavar="NAME=VALUE", nargs="*", help=_OVERRIDES)


def _add_looking_back(command: Command) -> None:
    report = command(
        "report",
        commands.report,
        "Teacher beside student in one table, their words for a gap, and a picture of the losses.",
    )
    report.add_argument("run", metavar="RUN", help="the folder of a finished run, such as runs/quickstart")
    speed = command(
        "speed",
        commands.speed,
        "Where the time of an experiment's update goes: teacher, student, losses, backward pass and optimizer, each "
        "beside the peak of the devices at hand. Trains nothing, and prepares the corpus where it is missing.",
    )
    _add_experiment(speed)
    speed.add_argument(
        "--smoke", metavar="FOLDER", type=_folder, help="of a tiny random model, all in FOLDER: shows that it runs"
    )
    _add_plan(command)
    replay = command(
        "replay",
        commands.replay,
        "Take a step of a run apart, as where it became NaN. Goes from the last checkpoint before the step to it and "
        "names the loss and the layer that turned first; nothing in the run's folder is changed.",
    )
    replay.add_argument("run", metavar="RUN", help="the folder of a run that distill left, such as runs/quickstart")
    replay.add_argument("step", metavar="STEP", type=int, help="as the log counts them, from 1")


def _add_plan(command: Command) -> None:
    plan = command(
        "plan",
        commands.plan,
        "What a run will take, before it: memory, arithmetic, what devices exchange, the limit they set, hours and "
        "cost. Compiles the real step and runs nothing. For the devices at hand, unless others are named.",
    )
    _add_experiment(plan)
    elsewhere = plan.add_mutually_exclusive_group()
    elsewhere.add_argument("--topology", metavar="NAME", help="TPUs, such as v5e:16x16; needs the extra tpu, but none")
    elsewhere.add_argument("--device", metavar="NAME", help="GPUs, by arithmetic alone: H200 A100 V100 …")
    plan.add_argument("--count", metavar="N", type=_count, default=1, help="how many of --device (default 1)")
    plan.add_argument("--price", metavar="X", type=float, help="of one device for an hour")


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of devices")
    return int(text)


def _folder(text: str) -> str:
    if "://" in text:
        raise argparse.ArgumentTypeError(f"{text} is an address; only runs, shards and models may have one")
    return text


def _steps(text: str) -> range:
    first, _, last = text.partition(":")
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise argparse.ArgumentTypeError(f"{text!r} is not FIRST:LAST, such as 20:25")
    return range(int(first), int(last) + 1)


def _add_tasks(command: Command) -> None:
    finetune = command(
        "finetune",
        commands.finetune,
        "Fine-tune a model on tasks, several seeds each. Results that are there already are kept.",
    )
    evaluate = command(
        "evaluate", commands.evaluate, "Score a fine-tuned model on a task. Its answers are written to a file."
    )
    for sub in (finetune, evaluate):
        sub.add_argument("model", metavar="MODEL", help="a Hub folder or id, such as runs/quickstart/export")
        sub.add_argument("--task", metavar="NAME[=FOLDER]", action="append", required=True, help=_TASK_HELP)
        sub.add_argument(
            "--windows",
            metavar="N",
            type=int,
            help="read long texts in windows that share N tokens, instead of cutting them",
        )
    finetune.add_argument(
        "--seeds", metavar="N", type=int, default=1, help="how many; each starts a new head (default 1)"
    )
    finetune.add_argument(
        "--teacher", metavar="MODEL", help="a model fine-tuned on the same task, to be distilled as well"
    )
    finetune.add_argument(
        "--loss",
        action="append",
        default=[],
        choices=("cosine", "hidden_mse"),
        help="what the teacher shows beside its answers: its hidden states; may be repeated",
    )
    finetune.add_argument(
        "--into", metavar="DIR", type=_folder, help="where results go (default: tasks/ in the run of the model)"
    )
    finetune.add_argument("overrides", metavar="NAME=VALUE", nargs="*", help=_PLAN)
    evaluate.add_argument("--split", default="dev", help="of the task's files (default dev)")
    evaluate.add_argument(
        "--threshold",
        metavar="X",
        type=float,
        help="squad2: how much higher than a span no answer has to score to be given (default 0; the best is printed)",
    )
    evaluate.add_argument(
        "--into", metavar="DIR", type=_folder, default="predictions", help="where the answers go (predictions/)"
    )


def _add_retention(command: Command) -> None:
    retention = command(
        "retention",
        commands.retention,
        "What students keep of their teacher's scores. A table as Markdown, LaTeX and JSON, and a picture.",
    )
    retention.add_argument(
        "results", metavar="NAME=FOLDER", nargs="+", help="what finetune wrote for each model, the teacher's first"
    )
    retention.add_argument(
        "--task",
        metavar="NAME",
        action="append",
        help="only this task; may be repeated (default: all, the same of each)",
    )
    retention.add_argument(
        "--into", metavar="DIR", type=_folder, default="retention", help="where the table goes (retention/)"
    )
