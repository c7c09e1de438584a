"""distill(experiment): the only place with effects, in reading order."""

import contextlib
import os
import pathlib

import jax

from distilbert_jax.config.experiment import PACE, Experiment
from distilbert_jax.config.experiment_file import describe
from distilbert_jax.data.shards.prepare import Prepared, prepare
from distilbert_jax.devices.mesh import replicated
from distilbert_jax.devices.peak import peak
from distilbert_jax.devices.processes import Hosts, is_first
from distilbert_jax.hub.load import Model
from distilbert_jax.io import files, remote_folder, untrusted
from distilbert_jax.io.console import bar, console
from distilbert_jax.runtime.checkpoint import Checkpoints
from distilbert_jax.runtime.command_record import COMMAND, Command
from distilbert_jax.runtime.metrics_log import Log, Silent
from distilbert_jax.runtime.profiler import Profile
from distilbert_jax.runtime.remote_run import bring, send
from distilbert_jax.runtime.run_format import check_run_format, write_run_format
from distilbert_jax.runtime.step_monitor import Meter, Work, timed
from distilbert_jax.runtime.stop_signal import Stop, Stopped
from distilbert_jax.train.distill.export import export
from distilbert_jax.train.distill.held_out import in_words, measure
from distilbert_jax.train.distill.models import cut_student, read_models
from distilbert_jax.train.distill.setup import Run, build
from distilbert_jax.types import TrainState

IDENTITY = "experiment.txt"


def run_folder(experiment: Experiment) -> pathlib.Path:
    return remote_folder.local(experiment.workdir or f"runs/{experiment.name}")


def distill(experiment: Experiment, *, command: Command | None = None, profile: range = range(0)) -> pathlib.Path:
    """Trains the student of `experiment` and exports it to `export/` in the run's folder, which it returns. There it
    leaves the `command` that gave the experiment, for `replay`, and a device trace of the steps `profile`.

    The same call goes on where an earlier one ended. Raises ValueError for bad input, `Stopped` where a signal ended
    it; whatever ends it, the last checkpoint stays.
    """
    choose_kernels(experiment)
    folder, stored = run_folder(experiment), remote_folder.at(experiment.workdir)
    alone = files.alone_in(folder) if is_first() else contextlib.nullcontext()
    with Hosts() as hosts, alone:
        teacher, start = read_models(experiment)
        with hosts.first():
            if stored:
                bring(stored)
            prepared = prepare(experiment.corpus, start.tokenizer)
        student = cut_student(experiment, start, prepared.words)
        run = build(experiment, teacher, student, prepared)
        _claim(folder, identity(experiment, teacher, start, prepared))
        if command and is_first():
            command.write(folder)
        console.print(*student.origin, sep="\n  ", markup=False)
        state = _train(experiment, run, folder, Profile(profile, folder), stored)
        params = jax.jit(lambda x: x, out_shardings=replicated(run.mesh))(state.params["student"])  # of all processes
        if is_first():
            export(
                folder,
                experiment,
                teacher=teacher,
                start=start,
                student=student,
                prepared=prepared,
                params=params,
            )
            if stored:
                send(stored)
                (stored / "export").put()
                console.print(f"sent to {stored}")
    return folder


def choose_kernels(experiment: Experiment) -> None:
    """XLA's reproducible ones, if the experiment says so. Read when jax starts its first backend."""
    if experiment.deterministic:
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_gpu_deterministic_ops=true"


def identity(experiment: Experiment, teacher: Model | None, start: Model, prepared: Prepared) -> str:
    """What `experiment.txt` holds: the experiment as text, and the hashes of what it read."""
    facts = {"start": start.sha256, "corpus": prepared.sha256} | ({"teacher": teacher.sha256} if teacher else {})
    return describe(experiment) + "".join(f"sha256.{name}: {value}\n" for name, value in facts.items())


def difference(there: str, wanted: str) -> str:
    """Of two identities, line by line, pace aside; nothing where there is none."""
    pace = tuple(f"{field}: " for field in PACE)
    ours, theirs = ({line for line in text.splitlines() if not line.startswith(pace)} for text in (wanted, there))
    shown = [f"  there   {line}" for line in sorted(theirs - ours)]
    return "\n".join(shown + [f"  wanted  {line}" for line in sorted(ours - theirs)])


def _claim(folder: pathlib.Path, text: str) -> None:
    """Writes down whose folder this is. ValueError, with the difference, where another experiment left checkpoints."""
    path = folder / IDENTITY
    if path.is_file() and any(folder.glob("checkpoints/*.sha256")):
        check_run_format(folder)
        different = difference(untrusted.text(path), text)
        if different:
            raise ValueError(
                f"{folder} holds another experiment's run; give this one a workdir of its own:\n{different}"
            )
    if is_first():
        write_run_format(folder)
        with files.atomic(path) as partial:
            partial.write_text(text, encoding="utf-8")


def _train(
    experiment: Experiment, run: Run, folder: pathlib.Path, profile: Profile, stored: remote_folder.Stored | None
) -> TrainState:
    """From the last checkpoint, or the start, to the last step."""
    kept = Checkpoints(folder / "checkpoints", keep=experiment.keep, stored=stored / "checkpoints" if stored else None)
    with contextlib.closing(kept) as checkpoints:
        state, done = checkpoints.restore(run.state) or (run.state, 0)
        with Log(folder, start=done) if is_first() else Silent() as log, Stop(run.mesh) as stop:
            if done:
                console.print(f"going on from step {done:,}")
            else:
                _evaluate(run, state, 0, log)
            meter = Meter(
                log,
                checkpoints,
                losses=experiment.losses,
                schedule=experiment.optimizer.schedule(experiment.steps),
                log_every=experiment.log_every,
                bad_steps_allowed=experiment.bad_steps_allowed,
                run=folder if (folder / COMMAND).is_file() else None,
                peak=peak(experiment.dtype),
            )
            named = "distilling" if experiment.teacher else "training"
            with profile, run.fits.explained(run.rows_per_device), bar(named, total=experiment.steps) as advance:
                for step, (batch, waited) in enumerate(timed(run.batches.after(done)), done + 1):
                    asked = stop.ask()
                    profile.before(step)
                    state, metrics = run.train_step(state, run.teachers, run.place(batch))
                    profile.after(step, metrics)
                    meter.after(step, metrics, waited, work=Work.of(batch, run.flops))
                    ending, last = asked(), step == experiment.steps
                    pause = (
                        step % experiment.eval_every == 0 or last,
                        step % experiment.checkpoint_every == 0 or last or ending is not None,
                    )
                    if any(pause):
                        meter.catch_up()
                        if pause[0]:
                            _evaluate(run, state, step, log)
                        if pause[1]:
                            log.flush()
                            if stored and is_first():
                                send(stored)
                            checkpoints.save(state, step=step)
                        meter.restart()
                    advance(step, meter.note)
                    if ending is not None and not last:
                        checkpoints.wait()
                        raise Stopped(ending, step=step, folder=folder)
    return state


def _evaluate(run: Run, state: TrainState, step: int, log: Log | Silent) -> None:
    measured = measure(run, state.params["student"])
    log.write("eval", step, measured)
    console.print(f"step {step:,}: {in_words(measured)}")
