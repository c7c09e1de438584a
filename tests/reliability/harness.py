"""The real command, ended by a signal at a chosen moment and started again, and whether two folders are the same."""

import collections
import dataclasses
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable

import numpy as np
import safetensors.numpy

from distilbert_jax import log_keys
from distilbert_jax.runtime import metrics_log
from tests.conftest import ROOT

TIMED = {key.name for key in log_keys.SPEED_KEYS}
TRIES = 10  # blows for one that has to fall somewhere
HALF_SAVED = "in the write of a checkpoint"
Ready = Callable[[], bool]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moment:
    """When to strike. `watch(folder)` is called as the command starts, and returns what says that the moment has
    come. `lands`: where the blow has to fall, or it is struck again: on a busy machine it may come late.
    """

    name: str
    watch: Callable[[pathlib.Path], Ready]
    number: signal.Signals = signal.SIGKILL
    twice: bool = False
    lands: str | None = None


def start(command: list[str]) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "distilbert_jax", *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(command: list[str]) -> str:
    """What the command says, to its good end."""
    process = start(command)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    return said


def fails(command: list[str]) -> str:
    """The one line with which the command ends."""
    error = error_of(command)
    assert error is not None, "it came to its end"
    return error


def error_of(command: list[str]) -> str | None:
    """The one line with which the command ends; None where it comes to its end."""
    process = start(command)
    said, _ = process.communicate(timeout=600)
    if process.returncode == 0:
        return None
    assert process.returncode == 1, said
    assert "Traceback" not in said, said
    (error,) = re.findall(r"^error: .*$", said, re.MULTILINE)
    return error


def interrupt(
    command: list[str],
    folder: pathlib.Path,
    moments: Iterable[Moment],
    *,
    landing: Callable[[pathlib.Path], str],
    came_to_its_end: Callable[[], None],
) -> collections.Counter[str]:
    """Ends the command at every moment, starting it again each time, and lets the last start run to its end. Counts
    where the blows fell, as the folder tells afterwards. A start that ended before its moment is checked, its folder
    thrown away, and the moment waited for anew.
    """
    landings: collections.Counter[str] = collections.Counter()
    for moment in moments:
        for _ in range(TRIES):
            while not _struck(command, folder, moment):
                came_to_its_end()
                shutil.rmtree(folder)
            where = landing(folder)
            landings[where] += 1
            if moment.lands in (None, where):
                break
        else:
            raise AssertionError(f"{TRIES} blows, and none fell {moment.lands}")
    run(command)
    came_to_its_end()
    return landings


def _struck(command: list[str], folder: pathlib.Path, moment: Moment) -> bool:
    process, ready = start(command), moment.watch(folder)
    while process.poll() is None and not _come(ready):
        time.sleep(0.003)
    early = process.poll() is None
    if early:
        process.send_signal(moment.number)
        if moment.twice:
            process.send_signal(moment.number)
    said, _ = process.communicate(timeout=120)
    assert "Traceback" not in said, said
    if process.returncode == 0:
        return False
    assert early, said
    if moment.number == signal.SIGTERM and not moment.twice and process.returncode == 128 + moment.number:
        ((step, where),) = re.findall(r"ended by SIGTERM after step ([\d,]+); everything is saved in (.*), and", said)
        saved = [int(path.stem) for path in pathlib.Path(where).glob("checkpoints/*.sha256")]
        assert max(saved, default=None) == int(step.replace(",", "")) or pathlib.Path(f"{where}.json").exists()
    else:
        assert process.returncode in (-moment.number, 128 + moment.number)
    assert not alive(process.pid), "it left processes behind"
    return True


def _come(ready: Ready) -> bool:
    try:
        return ready()
    except FileNotFoundError:  # what it looked at was just replaced: it looks again
        return False


def alive(group: int) -> bool:
    """Whether a process of a group still runs, five seconds from now."""
    stats = pathlib.Path("/proc")
    for _ in range(50):
        fields = [path.read_text().rpartition(")")[2].split() for path in stats.glob("[0-9]*/stat") if path.exists()]
        if not any(int(of_group) == group and state != "Z" for state, _, of_group, *_ in fields):
            return False
        time.sleep(0.1)
    return True


# The moments


def at_random(random: np.random.Generator, *, length: float, number: signal.Signals = signal.SIGKILL) -> Moment:
    """Anywhere in the seconds that a run takes; another one, where a faster run was over before."""

    def watch(folder: pathlib.Path) -> Ready:
        since, after = time.monotonic(), random.uniform(0.0, length)
        return lambda: time.monotonic() - since >= after

    return Moment(name="at random", watch=watch, number=number)


def in_training(random: np.random.Generator, *, length: float = 1.0, **named) -> Moment:
    """Some time after the next checkpoint is whole."""
    after = random.uniform(0.0, length)

    def watch(folder: pathlib.Path) -> Ready:
        before, since = newest(folder), [0.0]

        def ready() -> bool:
            if not since[0] and newest(folder) > before:
                since[0] = time.monotonic()
            return since[0] > 0 and time.monotonic() - since[0] >= after

        return ready

    return Moment(name="in training", watch=watch, **named)


def in_a_save() -> Moment:
    """While a checkpoint is written, once one more is whole than before."""

    def watch(folder: pathlib.Path) -> Ready:
        before = newest(folder)
        return lambda: newest(folder) > before and half_saved(folder)

    return Moment(name="in a save", watch=watch, lands=HALF_SAVED)


def while_there_is(pattern: str, *, without: str | None = None) -> Moment:
    """As long as a file or folder is there, and another is not."""

    def watch(folder: pathlib.Path) -> Ready:
        return lambda: any(folder.glob(pattern)) and not (without and any(folder.glob(without)))

    return Moment(name=pattern, watch=watch)


def newest(folder: pathlib.Path) -> tuple[int, int]:
    """How far a run has come: (models under way or done, step of the last whole checkpoint)."""
    runs = _checkpoints(folder)
    steps = [int(path.stem) for run in runs for path in run.glob("*.sha256") if path.stem.isdigit()]
    return len(list(folder.glob("seed*"))), max(steps, default=-1)


def _checkpoints(folder: pathlib.Path) -> list[pathlib.Path]:
    """Those of a run, or of each seed."""
    return [*folder.glob("run/checkpoints"), *folder.glob("seed*/checkpoints")]


def half_saved(folder: pathlib.Path) -> bool:
    """Whether Orbax is writing, or its files have no sums yet."""
    return any(
        ".orbax-checkpoint-tmp" in path.name
        or path.suffix == ".partial"
        or (path.name.isdigit() and not path.with_name(f"{path.name}.sha256").exists())
        for run in _checkpoints(folder)
        for path in run.iterdir()
    )


# What is the same


def same_log(a: pathlib.Path, b: pathlib.Path, *, steps: dict[metrics_log.Kind, list[int]]) -> None:
    """The same numbers to the last digit, and each step once."""
    for kind, wanted in steps.items():
        ours, theirs = (
            [
                {name: value for name, value in entry.items() if name not in TIMED}
                for entry in metrics_log.read_log(folder, kind)
            ]
            for folder in (a, b)
        )
        assert [entry["step"] for entry in theirs] == wanted
        assert ours == theirs


def same_checkpoints(a: pathlib.Path, b: pathlib.Path) -> None:
    """The same steps are kept, with the same bits in every array."""
    steps = sorted(path.stem for path in a.glob("*.sha256"))
    assert steps
    assert steps == sorted(path.stem for path in b.glob("*.sha256") if path.stem.isdigit())
    for step in steps:
        ours, theirs = (_bits(arrays(folder / step)) for folder in (a, b))
        assert ours == theirs


def arrays(checkpoint: pathlib.Path):
    """Every array of a checkpoint, whatever devices and processes saved it."""
    import jax
    from orbax.checkpoint import v1 as ocp

    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    found = ocp.metadata(checkpoint.absolute()).metadata
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), found)
    return jax.tree.map(np.asarray, ocp.load(checkpoint.absolute(), shapes))


def _bits(tree) -> list[tuple[str, str, tuple[int, ...], bytes]]:
    import jax

    leaves = [(jax.tree_util.keystr(path), np.asarray(x)) for path, x in jax.tree_util.tree_leaves_with_path(tree)]
    return [(name, str(x.dtype), x.shape, x.tobytes()) for name, x in leaves]


def same_files(a: pathlib.Path, b: pathlib.Path, *patterns: str) -> None:
    """The same names with the same bytes."""
    found = [{path.relative_to(f): path.read_bytes() for p in patterns for path in f.glob(p)} for f in (a, b)]
    assert found[0]
    assert found[0] == found[1]


def words(landings: collections.Counter[str], *, of: str) -> str:
    """Landings for the table of promises."""
    return f"{landings.total()} of {of}: " + ", ".join(f"{count} {name}" for name, count in landings.most_common())


# Something to run


def learner(folder: pathlib.Path, source: pathlib.Path) -> pathlib.Path:
    """A copy of a tiny model, with weights large enough that a text makes a difference."""
    shutil.copytree(source, folder)
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    for name, x in tensors.items():
        tensors[name] = np.ones_like(x) if "norm.weight" in name.lower() else 4 * x if x.ndim == 2 else x
    safetensors.numpy.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def colors(folder: pathlib.Path, *, train: int) -> pathlib.Path:
    """A task: is it a red one or a green one?"""
    random = np.random.default_rng(0)
    folder.mkdir()
    for split, count in (("train", train), ("dev", 40)):
        lines = [
            json.dumps({"text": f"the {noun} sees a {color} {other}", "label": color})
            for noun, color, other in zip(
                random.choice(["bird", "cat", "dog"], count),
                random.choice(["red", "green"], count),
                random.choice(["stone", "tree"], count),
                strict=True,
            )
        ]
        (folder / f"{split}.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return folder


def texts(path: pathlib.Path, *, documents: int) -> pathlib.Path:
    """Documents that are all different, of some 400 characters."""
    filler = "the old dog sees a small green bird in the tree by the stone and the cat sleeps near it. " * 4
    path.write_text("".join(f"{filler} {i}\n\n" for i in range(documents)))
    return path
