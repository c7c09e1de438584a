"""Distillation from an experiment to an exported student.

All side effects of training begin here, in the order in which they happen: `distill` prepares the run's folder, trains
and exports, and `_train` is the training loop.
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator

import jax

from distilbert_jax import log_keys
from distilbert_jax.config.experiment import Experiment
from distilbert_jax.config.experiment_file import flatten
from distilbert_jax.devices.mesh import replicated_sharding
from distilbert_jax.devices.peak import peak_flops
from distilbert_jax.devices.processes import ProcessGroup, is_first
from distilbert_jax.io import remote_folder
from distilbert_jax.io.console import console, print_warning, progress_bar
from distilbert_jax.io.folder_marker import check_remote_owner, hold_folder
from distilbert_jax.runtime.checkpoint import Checkpoints
from distilbert_jax.runtime.command_record import COMMAND_FILE, RunCommand
from distilbert_jax.runtime.metrics_log import MetricsLog, NullLog, read_log
from distilbert_jax.runtime.profiler import Profiler
from distilbert_jax.runtime.remote_run import download_run, upload_run
from distilbert_jax.runtime.run_folder import RunIdentity, check_run_folder, claim_run_folder, locate_run_folder
from distilbert_jax.runtime.slow_updates import SlowUpdates
from distilbert_jax.runtime.step_monitor import StepMonitor, StepWork, time_waits
from distilbert_jax.runtime.stop_signal import RunStopped, StopSignal
from distilbert_jax.train.distill.export import check_learned, describe_student, export_student, write_results
from distilbert_jax.train.distill.held_out import evaluate_held_out, format_measurements
from distilbert_jax.train.distill.inputs import load_inputs
from distilbert_jax.train.distill.setup import DistillSetup, set_deterministic, setup_distillation
from distilbert_jax.train.distill.update_time import estimate_update_seconds
from distilbert_jax.types import TrainState


def distill(
    experiment: Experiment,
    *,
    command: RunCommand | None = None,
    profile: range = range(0),
    may_change_code: bool = False,
) -> pathlib.Path:
    """Trains the student of an experiment and exports it to `export/` in the run's folder.

    The same call resumes a run that ended early, from its last checkpoint. Checkpoints stay whatever ends a run.

    Args:
        experiment: the experiment.
        command: the command that gave the experiment. It is written to the run's folder, where `replay` reads it.
        profile: the steps of which a device trace is written to the run's folder.
        may_change_code: whether a run may be resumed although the files of its experiment have changed.

    Returns:
        The run's folder.

    Raises:
        ValueError: the experiment or something that it reads is invalid, the folder belongs to another run or has
            files of something else, or a step was not finite.
        RunStopped: a signal stopped the run, after it saved a checkpoint.
    """
    set_deterministic(experiment)
    folder, remote = locate_run_folder(experiment), remote_folder.open_remote_folder(experiment.workdir)
    lock = hold_folder(folder, "distill", setting="workdir=FOLDER") if is_first() else contextlib.nullcontext()
    with ProcessGroup() as processes, lock:
        identity = RunIdentity(config=flatten(experiment), code=command.hash_code() if command else None)
        # Checked twice: before the inputs are read, which takes time, and again with their hashes.
        check_run_folder(folder, identity, may_change_code=may_change_code)
        inputs = load_inputs(experiment, preparing=_first_process_downloads(processes, remote))
        setup = setup_distillation(experiment, inputs)
        identity = dataclasses.replace(identity, sha256=inputs.sha256)
        check_run_folder(folder, identity, may_change_code=may_change_code)
        claim_run_folder(folder, identity)
        if is_first():
            if command:
                command.write(folder)
            describe_student(folder, experiment, inputs, setup.baseline)
        console.print(*inputs.student.origin, sep="\n  ", markup=False)
        state = _train(experiment, setup, folder, Profiler(profile, folder), remote, processes)
        check_learned(experiment, state)
        # Every process takes part in gathering the student, and the first one writes it.
        gather = jax.jit(lambda params: params, out_shardings=replicated_sharding(setup.mesh))
        params = gather(state.params["student"])
        if is_first():
            export_student(folder, params, step=experiment.steps, output_dir=folder / "export")
            write_results(folder, experiment)
            if remote:
                upload_run(remote)
                (remote / "export").upload()
                console.print(f"Uploaded the run to {remote}.", markup=False)
    return folder


@contextlib.contextmanager
def _first_process_downloads(processes: ProcessGroup, remote: remote_folder.RemoteFolder | None) -> Iterator[None]:
    """Downloads a run from the object store. The first process does this, and the body, before the others begin."""
    with processes.first_process_runs_first():
        if remote:
            check_remote_owner(remote, "distill", setting="workdir=ADDRESS")
            download_run(remote)
        yield


def _train(
    experiment: Experiment,
    setup: DistillSetup,
    folder: pathlib.Path,
    profiler: Profiler,
    remote: remote_folder.RemoteFolder | None,
    processes: ProcessGroup,
) -> TrainState:
    """Trains from the last checkpoint, or from the start, to the last step.

    Args:
        experiment: the experiment.
        setup: its device state, batches and compiled functions.
        folder: the run's folder, which gets the log and the checkpoints.
        profiler: traces the steps that it was made for.
        remote: the object store's copy of the run's folder, if there is one.
        processes: the processes of the run.

    Returns:
        The state after the last step.
    """
    opened = Checkpoints(
        folder / "checkpoints", keep=experiment.keep_checkpoints, stored=remote / "checkpoints" if remote else None
    )
    with contextlib.closing(opened) as checkpoints:
        state, start = checkpoints.restore(setup.state) or (setup.state, 0)
        with (
            MetricsLog(folder, start=start) if is_first() else NullLog() as log,
            StopSignal(setup.mesh, processes) as stop_signal,
        ):
            if start:
                console.print(f"Resuming from step {start:,}.")
            else:
                _evaluate(setup, state, 0, log, folder)
            peak = peak_flops(experiment.dtype)
            monitor = _make_monitor(experiment, folder, log, checkpoints, peak)
            with (
                profiler,
                setup.step_memory.explain_out_of_memory(setup.per_device_batch_size),
                progress_bar("distilling" if experiment.teacher else "training", total=experiment.steps) as advance,
            ):
                updates = SlowUpdates(stop_signal, checkpoints, estimate=estimate_update_seconds(setup, peak))
                updates.begin(start + 1)
                for step, (batch, waited) in enumerate(time_waits(setup.batches.iter_from(start)), start + 1):
                    # Processes agree on whether to stop while the step runs, and read the answer after it.
                    read_stop_signal = stop_signal.poll()
                    profiler.before(step)
                    state, metrics = setup.train_step(state, setup.teachers, setup.put_batch(batch))
                    has_waited = updates.finish(metrics)
                    profiler.after(step, metrics)
                    monitor.after(step, metrics, waited, work=StepWork.from_batch(batch, setup.flops))
                    if has_waited:
                        monitor.read_pending()

                    stopped_by, is_last = read_stop_signal(), step == experiment.steps
                    needs_evaluation = step % experiment.eval_every == 0 or is_last
                    needs_checkpoint = step % experiment.checkpoint_every == 0 or is_last or stopped_by is not None
                    needs_checkpoint |= updates.is_slow
                    if needs_evaluation or needs_checkpoint:
                        # First, because it raises an error if this step was not finite.
                        monitor.read_pending()
                        if needs_evaluation:
                            _evaluate(setup, state, step, log, folder)
                        if needs_checkpoint:
                            _save(checkpoints, state, step, log, remote, waits=updates.is_slow)
                        monitor.restart()
                    advance(step, monitor.note)
                    if stopped_by is not None and not is_last:
                        checkpoints.wait()
                        raise RunStopped(stopped_by, step=step, folder=folder)
                    if not is_last:
                        updates.begin(step + 1)
    return state


def _save(
    checkpoints: Checkpoints,
    state: TrainState,
    step: int,
    log: MetricsLog | NullLog,
    remote: remote_folder.RemoteFolder | None,
    *,
    waits: bool,
) -> None:
    """Starts to save a checkpoint, and uploads the other files of a run in an object store.

    Args:
        checkpoints: the checkpoints of the run.
        state: the state after the step.
        step: the step.
        log: the log of the run.
        remote: the object store's copy of the run's folder, if there is one.
        waits: whether to wait until the checkpoint is complete.
    """
    # The log goes first: a checkpoint without its log lines would leave a gap on resuming.
    log.flush()
    if remote and is_first():
        upload_run(remote)
    checkpoints.save(state, step=step)
    if waits:
        checkpoints.wait()


def _make_monitor(
    experiment: Experiment,
    folder: pathlib.Path,
    log: MetricsLog | NullLog,
    checkpoints: Checkpoints,
    peak: float | None,
) -> StepMonitor:
    """Returns the monitor that logs the steps of a run and stops it at a step that is not finite."""
    return StepMonitor(
        log,
        checkpoints,
        losses=experiment.losses,
        schedule=experiment.optimizer.make_schedule(experiment.steps),
        log_every=experiment.log_every,
        max_nonfinite_steps=experiment.max_nonfinite_steps,
        # Without a command there is nothing that `replay` could run again.
        run=folder if (folder / COMMAND_FILE).is_file() else None,
        peak=peak,
    )


def _evaluate(
    setup: DistillSetup, state: TrainState, step: int, log: MetricsLog | NullLog, folder: pathlib.Path
) -> None:
    """Evaluates the student on held-out rows; logs and prints the result, and says whether the run has diverged."""
    measurements = evaluate_held_out(setup, state.params["student"])
    log.write("eval", step, measurements)
    # From the first line of the log on, another experiment is refused in this folder.
    log.flush()
    console.print(f"step {step:,}: {format_measurements(measurements)}")
    failure = setup.baseline.explain_failure(measurements)
    if failure and step and is_first():
        initial, cross_entropy = read_log(folder, "eval")[0], log_keys.CROSS_ENTROPY.name
        if not measurements[cross_entropy] <= initial[cross_entropy]:
            print_warning(
                f"{failure} It is also worse than at the start: the run has diverged. Start it again with "
                "a lower optimizer.learning_rate or optimizer.max_grad_norm."
            )
