"""distill(experiment): the only place with effects, in reading order."""

import contextlib
import pathlib
from collections.abc import Iterator

import jax

from distilbert_jax.config.experiment import Experiment
from distilbert_jax.devices.mesh import replicated_sharding
from distilbert_jax.devices.peak import peak_flops
from distilbert_jax.devices.processes import ProcessGroup, is_first
from distilbert_jax.io import files, remote_folder
from distilbert_jax.io.console import console, progress_bar
from distilbert_jax.runtime.checkpoint import Checkpoints
from distilbert_jax.runtime.command_record import COMMAND_FILE, RunCommand
from distilbert_jax.runtime.metrics_log import MetricsLog, NullLog
from distilbert_jax.runtime.profiler import Profiler
from distilbert_jax.runtime.remote_run import download_run, upload_run
from distilbert_jax.runtime.run_folder import claim_run_folder, locate_run_folder, run_identity
from distilbert_jax.runtime.step_monitor import StepMonitor, StepWork, time_waits
from distilbert_jax.runtime.stop_signal import RunStopped, StopSignal
from distilbert_jax.train.distill.export import export_student
from distilbert_jax.train.distill.held_out import evaluate_held_out, format_measurements
from distilbert_jax.train.distill.inputs import load_inputs
from distilbert_jax.train.distill.setup import DistillSetup, set_deterministic, setup_distillation
from distilbert_jax.types import TrainState


def distill(experiment: Experiment, *, command: RunCommand | None = None, profile: range = range(0)) -> pathlib.Path:
    """Trains the student of `experiment` and exports it to `export/` in the run's folder, which it returns. There it
    leaves the `command` that gave the experiment, for `replay`, and a device trace of the steps `profile`.

    The same call goes on where an earlier one ended. Raises ValueError for bad input, `Stopped` where a signal ended
    it; whatever ends it, the last checkpoint stays.
    """
    set_deterministic(experiment)
    folder, stored = locate_run_folder(experiment), remote_folder.remote_folder(experiment.workdir)
    alone = files.lock_folder(folder) if is_first() else contextlib.nullcontext()
    with ProcessGroup() as hosts, alone:
        inputs = load_inputs(experiment, preparing=_first_process_downloads(hosts, stored))
        run = setup_distillation(experiment, inputs)
        claim_run_folder(folder, run_identity(experiment, inputs.sha256))
        if command and is_first():
            command.write(folder)
        console.print(*inputs.student.origin, sep="\n  ", markup=False)
        state = _train(experiment, run, folder, Profiler(profile, folder), stored)
        params = jax.jit(lambda x: x, out_shardings=replicated_sharding(run.mesh))(
            state.params["student"]
        )  # of all processes
        if is_first():
            export_student(folder, experiment, inputs, params)
            if stored:
                upload_run(stored)
                (stored / "export").upload()
                console.print(f"sent to {stored}")
    return folder


@contextlib.contextmanager
def _first_process_downloads(hosts: ProcessGroup, stored: remote_folder.RemoteFolder | None) -> Iterator[None]:
    """Downloads a stored run, and does what is inside, in the first process before the others do."""
    with hosts.first_process_first():
        if stored:
            download_run(stored)
        yield


def _train(
    experiment: Experiment,
    run: DistillSetup,
    folder: pathlib.Path,
    profile: Profiler,
    stored: remote_folder.RemoteFolder | None,
) -> TrainState:
    """From the last checkpoint, or the start, to the last step."""
    kept = Checkpoints(
        folder / "checkpoints", keep=experiment.keep_checkpoints, stored=stored / "checkpoints" if stored else None
    )
    with contextlib.closing(kept) as checkpoints:
        state, done = checkpoints.restore(run.state) or (run.state, 0)
        with MetricsLog(folder, start=done) if is_first() else NullLog() as log, StopSignal(run.mesh) as stop:
            if done:
                console.print(f"going on from step {done:,}")
            else:
                _evaluate(run, state, 0, log)
            meter = StepMonitor(
                log,
                checkpoints,
                losses=experiment.losses,
                schedule=experiment.optimizer.make_schedule(experiment.steps),
                log_every=experiment.log_every,
                max_nonfinite_steps=experiment.max_nonfinite_steps,
                run=folder if (folder / COMMAND_FILE).is_file() else None,
                peak=peak_flops(experiment.dtype),
            )
            named = "distilling" if experiment.teacher else "training"
            with (
                profile,
                run.step_memory.explain_out_of_memory(run.per_device_batch_size),
                progress_bar(named, total=experiment.steps) as advance,
            ):
                for step, (batch, waited) in enumerate(time_waits(run.batches.iter_from(done)), done + 1):
                    asked = stop.poll()
                    profile.before(step)
                    state, metrics = run.train_step(state, run.teachers, run.place(batch))
                    profile.after(step, metrics)
                    meter.after(step, metrics, waited, work=StepWork.from_batch(batch, run.flops))
                    ending, last = asked(), step == experiment.steps
                    pause = (
                        step % experiment.eval_every == 0 or last,
                        step % experiment.checkpoint_every == 0 or last or ending is not None,
                    )
                    if any(pause):
                        meter.read_pending()
                        if pause[0]:
                            _evaluate(run, state, step, log)
                        if pause[1]:
                            log.flush()
                            if stored and is_first():
                                upload_run(stored)
                            checkpoints.save(state, step=step)
                        meter.restart()
                    advance(step, meter.note)
                    if ending is not None and not last:
                        checkpoints.wait()
                        raise RunStopped(ending, step=step, folder=folder)
    return state


def _evaluate(run: DistillSetup, state: TrainState, step: int, log: MetricsLog | NullLog) -> None:
    measured = evaluate_held_out(run, state.params["student"])
    log.write("eval", step, measured)
    console.print(f"step {step:,}: {format_measurements(measured)}")
