"""The step monitor: steps that are not finite, and the speed of steps."""

import contextlib

import jax
import jax.numpy as jnp
import pytest

from distilbert_jax.devices import peak
from distilbert_jax.runtime import metrics_log, step_monitor
from distilbert_jax.runtime.checkpoint import Checkpoints
from distilbert_jax.runtime.metrics_log import MetricsLog
from distilbert_jax.runtime.step_monitor import StepMonitor, StepWork


def after(tmp_path, *, nonfinite_steps, **allowed):
    """Lets a monitor read a step whose loss is NaN, after which `nonfinite_steps` updates have been skipped."""
    with (
        MetricsLog(tmp_path, start=0) as log,
        contextlib.closing(Checkpoints(tmp_path / "checkpoints", keep=1)) as checkpoints,
    ):
        monitor = StepMonitor(log, checkpoints, losses={}, schedule=lambda step: 0.0, log_every=10, **allowed)
        monitor.after(
            7, {"loss": jnp.array(jnp.nan), "nonfinite_steps": jnp.array(nonfinite_steps)}, 0.0, work=StepWork(1, 1, {})
        )
        monitor.read_pending()


def test_the_first_nonfinite_step_stops_the_run_if_none_is_allowed(tmp_path):
    """As in fine-tuning, which has no replay either."""
    with pytest.raises(ValueError, match="step 7: loss became nan. The update was skipped. There is no") as caught:
        after(tmp_path, nonfinite_steps=1)
    assert "replay" not in str(caught.value)
    assert "max_nonfinite_steps" not in str(caught.value)


def test_a_run_continues_until_one_nonfinite_step_more_than_allowed(tmp_path, capsys):
    after(tmp_path, nonfinite_steps=3, max_nonfinite_steps=3)
    assert "3 of the 3 steps that max_nonfinite_steps allows" in capsys.readouterr().out
    with pytest.raises(ValueError, match=f"replay {tmp_path} 7. If it happens again"):
        after(tmp_path, nonfinite_steps=4, max_nonfinite_steps=3, run=tmp_path)


def test_speed_is_that_of_the_updates_since_the_last_entry(tmp_path, monkeypatch):
    """Two updates took four seconds, of which one was spent waiting for data. The first step, which compiles, is not
    counted.
    """
    clock = [0.0]
    monkeypatch.setattr(step_monitor.time, "perf_counter", lambda: clock[0])
    loss = {"loss": jnp.array(1.0), "nonfinite_steps": jnp.array(0)}
    with (
        MetricsLog(tmp_path, start=0) as log,
        contextlib.closing(Checkpoints(tmp_path / "checkpoints", keep=1)) as checkpoints,
    ):
        monitor = StepMonitor(log, checkpoints, losses={}, schedule=lambda step: 0.0, log_every=3, peak=1_000.0)
        for step, seconds in ((1, 60.0), (2, 1.0), (3, 3.0)):
            clock[0] += seconds
            monitor.after(step, loss, 0.5, work=StepWork(100, 75, {"mfu": 800.0, "mfu_all_positions": 1_200.0}))
            monitor.read_pending()
        log.flush()
        assert monitor.note == "loss 1.000  50 tokens/s  40% of peak"
    first, third = metrics_log.read_log(tmp_path, "train")
    assert "mfu" not in first
    assert [third[name] for name in ("tokens_per_second", "data_wait_fraction", "padding_fraction")] == [
        50.0,
        0.25,
        0.25,
    ]
    assert (third["mfu"], third["mfu_all_positions"]) == (0.4, 0.6)
    assert 1e7 < third["peak_memory_bytes"] < 1e12


@pytest.mark.parametrize("log_every", [1, 2, 5])
def test_the_logged_rates_add_up_to_the_time_of_the_clock(tmp_path, monkeypatch, log_every):
    """Reading metrics, computing the learning rate and writing a line take time that no rate may leave out."""
    clock = [0.0]
    monkeypatch.setattr(step_monitor.time, "perf_counter", lambda: clock[0])

    def slow_schedule(step):
        clock[0] += 2.0
        return 0.0

    loss = {"loss": jnp.array(1.0), "nonfinite_steps": jnp.array(0)}
    with (
        MetricsLog(tmp_path, start=0) as log,
        contextlib.closing(Checkpoints(tmp_path / "checkpoints", keep=1)) as checkpoints,
    ):
        monitor = StepMonitor(log, checkpoints, losses={}, schedule=slow_schedule, log_every=log_every, peak=1_000.0)
        times = {}
        for step in range(1, 12):
            clock[0] += 1.0 + step / 10
            monitor.after(step, loss, 0.25, work=StepWork(100, 75, {"mfu": 800.0}))
            times[step - 1] = clock[0]  # the step before was read
        log.flush()
    first, *entries = metrics_log.read_log(tmp_path, "train")
    assert first["step"] == 1
    steps = entries[-1]["step"] - first["step"]
    seconds = sum(
        100 * (entry["step"] - before["step"]) / entry["tokens_per_second"]
        for before, entry in zip([first, *entries], entries, strict=False)
    )
    # The time of an entry is known before its line is written, which takes two seconds.
    assert seconds == pytest.approx(times[entries[-1]["step"]] - times[1])
    waited = sum(100 * entry["data_wait_fraction"] / entry["tokens_per_second"] for entry in entries if log_every == 1)
    assert waited == pytest.approx(0.25 * steps if log_every == 1 else 0)


def test_the_peak_is_looked_up_by_the_name_of_the_device(monkeypatch):
    class Device:
        platform = "gpu"

        def __init__(self, kind):
            self.device_kind = kind

    def peak_of(kind, dtype="bfloat16"):
        monkeypatch.setattr(jax, "devices", lambda: [Device(kind)])
        monkeypatch.setattr(jax, "device_count", lambda: 2)
        return peak.peak_flops(dtype)

    assert peak_of("NVIDIA H200") == 2 * 989e12
    assert peak_of("NVIDIA H100 PCIe") == 2 * 756e12
    assert peak_of("NVIDIA H100 80GB HBM3") == 2 * 989e12
    assert peak_of("TPU v5 lite") == 2 * 197e12
    assert peak_of("TPU v5p") == 2 * 459e12
    assert peak_of("Tesla T4", "float32") == 2 * 8.1e12
    assert peak_of("another one") is None


def test_the_peak_of_a_cpu_is_measured():
    assert peak.peak_flops("float32") > 1e8
    assert peak.peak_flops("float32") == peak.peak_flops("float32")


def test_the_best_measurement_of_a_cpu_counts(monkeypatch):
    """The cores were busy at the first time and at the third."""
    measured = iter([1e9, 3e9, 2e9])
    monkeypatch.setattr(peak, "_cpu_flops", {})
    monkeypatch.setattr(peak, "_measure_cpu_flops", lambda dtype: next(measured))
    assert peak.peak_flops("float32") == 1e9
    assert peak.peak_flops("float32") == 1e9
    assert peak.peak_flops("float32", remeasure=True) == 3e9
    assert peak.peak_flops("float32", remeasure=True) == 3e9


def test_a_share_above_the_peak_is_explained():
    assert step_monitor._format_pace({"tokens_per_second": 50.0, "mfu": 0.4}) == "  50 tokens/s  40% of peak"
    text = step_monitor._format_pace({"tokens_per_second": 50.0, "mfu": 1.14})
    assert text == "  50 tokens/s  114% of peak (measured on busy cores, so too low)"
