"""A plan is of the program that runs, and its arithmetic is arithmetic."""

import importlib.util

import pytest

from distilbert_jax.cli.main import main
from distilbert_jax.config import experiment_file
from distilbert_jax.devices.specs import DEVICE_SPECS
from distilbert_jax.models import cost_model
from distilbert_jax.performance import collectives, targets
from distilbert_jax.performance.plan import plan
from distilbert_jax.train.distill.inputs import load_inputs
from distilbert_jax.train.distill.setup import setup_distillation
from tests.conftest import ROOT, tiny_config
from tests.devices.test_processes import tiny

DISTILBERT = str(ROOT / "experiments" / "distilbert_base_uncased.py")

PROGRAM = """HloModule jit_step

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  ROOT %sum = f32[] add(%a, %b)
}

%begin (part: bf16[2,3]) -> bf16[8,3] {
  %one = bf16[8,3]{1,0} all-gather(%part), replica_groups={{0,1,2,3}}, frontend_attributes={chain_id="7"}
}

%meanwhile (part: bf16[2,3]) -> bf16[8,3] {
  %same = bf16[8,3]{1,0} all-gather(%part), replica_groups={{0,1,2,3}}, frontend_attributes={chain_id="7"}
}

%body (state: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %part = f32[2,4]{1,0} parameter(0)
  %whole = f32[8,4]{1,0} all-gather(%part), replica_groups={{0,1,2,3}}, dimensions={0}
  %start = bf16[8,3]{1,0} fusion(%part), kind=kCustom, calls=%begin
  %product = bf16[8,3]{1,0} fusion(%start), kind=kOutput, calls=%meanwhile
}

%condition (state: (s32[], f32[8,4])) -> pred[] {
  ROOT %less = pred[] constant(true)
}

ENTRY %main (x: f32[8,4]) -> f32[2,4] {
  %loop = (s32[], f32[8,4]) while(%x), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  %both = (f32[10]{0}, bf16[6]{0}) all-reduce(%p, %q), replica_groups=[2,4]<=[8], to_apply=%add
  %alone = f32[10]{0} all-reduce(%p), replica_groups={{0},{1}}, to_apply=%add
  ROOT %cut = f32[2,4]{1,0} reduce-scatter(%both), replica_groups={{0,1,2,3}}, dimensions={0}, to_apply=%add
}
"""


def test_what_a_program_exchanges():
    def make(kind, size, times):
        return collectives.Collective(kind=kind, bytes=size, group_size=4, times=times)

    assert collectives.parse_collectives(PROGRAM) == [
        make("all-gather", 48, 5),  # asynchronous: its start and what runs meanwhile contain the same one
        make("all-gather", 128, 5),
        make("all-reduce", 52, 1),
        make("reduce-scatter", 128, 1),
    ]
    assert [each.sent_bytes for each in collectives.parse_collectives(PROGRAM)] == [36, 96, 78, 96]  # on a ring of four


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return experiment_file.load_experiment(tiny(tmp_path_factory.mktemp("plan")))


@pytest.mark.parametrize("changes", [[], ["fsdp=4", "tensor=2"]])
def test_the_program_planned_is_the_one_that_runs(experiment, changes, capsys):
    experiment = experiment_file.apply_overrides(experiment, changes)
    found = plan(experiment, targets.local_target())
    setup = setup_distillation(experiment, load_inputs(experiment))
    assert setup.per_device_batch_size == found.per_device_batch_size
    ratio = found.memory_bytes / setup.step_memory.bytes_needed(found.per_device_batch_size)
    assert ratio == pytest.approx(1.0, abs=0.01)  # the token counts of the corpus are a constant in the program
    assert found.flops * 8 == setup.flops["mfu"]
    assert "fits" in capsys.readouterr().out


def test_by_arithmetic_alone(capsys):
    assert (
        main(["plan", DISTILBERT, "--device", "A100", "--num-devices", "8", "--price-per-hour", "2", "steps=1000"]) == 0
    )
    said = capsys.readouterr().out
    assert "estimate by arithmetic" in said
    assert "micro-batches of 32 on each device, 8 per step" in said
    experiment = experiment_file.apply_overrides(experiment_file.load_experiment(DISTILBERT), ["steps=1000"])
    found = plan(experiment, targets.gpu_target("A100", 8), price=2.0)
    assert found.min_step_seconds["arithmetic"] == pytest.approx(found.flops / 312e12)
    assert found.min_hours == pytest.approx(1_000 * max(found.min_step_seconds.values()) / 3_600)
    [gradients] = found.collectives
    assert gradients.sent_bytes == pytest.approx(2 * 7 / 8 * 4 * 66_985_530, rel=1e-3)  # all parameters of DistilBERT
    plan(experiment_file.apply_overrides(experiment, ["per_device_batch_size=auto"]), targets.gpu_target("A100", 8))
    assert "This plan assumes 32." in capsys.readouterr().out
    halved = experiment_file.apply_overrides(experiment, ["per_device_batch_size=16"])
    assert plan(halved, targets.gpu_target("A100", 8)).memory_bytes < 0.7 * found.memory_bytes


def test_memory_by_arithmetic_grows_with_what_it_is_of():
    config = tiny_config(vocab_size=1_000)
    sizes = dict(
        parameters=1e6,
        teacher_parameters=1e6,
        rows=8,
        accumulation=1,
        length=64,
        num_predictions=10,
        predictions_per_block=128,
    )

    def of(**changes):
        return cost_model.DeviceWorkload(**{"student": config, "teacher": config, **sizes, **changes})

    assert of(parameters=2e6).memory_bytes() - of().memory_bytes() == 16e6  # parameter, gradient, two moments
    assert of(teacher_parameters=2e6).memory_bytes() - of().memory_bytes() == 4e6
    layers = config.num_layers * 64 * (8 * config.hidden_size + 2 * config.mlp_size + config.num_heads * 64) * 4
    assert of(rows=9).memory_bytes() - of().memory_bytes() == layers
    assert of(accumulation=2).memory_bytes() == of().memory_bytes()
    assert of(accumulation=2).traffic_bytes() > 1.5 * of().traffic_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--device", "H300"], "--device H300 is not a known GPU. Choose one of B200, H200"),
        (
            ["--device", "H200", "fsdp=2"],
            "fsdp=2 and tensor=1 cannot be planned with --device, which compiles nothing. Plan for the devices of",
        ),
        (["--device", "H200", "--num-devices", "7"], "global_batch_size=2048 is not divisible by 7 devices"),
        (["tensor=8"], "tensor=8 does not divide the student's num_heads, 12"),
    ],
)
def test_what_cannot_be_planned(words, said, capsys):
    assert main(["plan", DISTILBERT, *words]) == 1
    assert said in capsys.readouterr().err


def test_a_topology_without_its_compiler(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["plan", DISTILBERT, "--topology", "v5e:4x4"]) == 1
    assert "pip install 'distilbert_jax[tpu]'" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs the extra tpu")
def test_a_tpu_that_is_not_there(experiment, capsys):
    found = plan(
        experiment_file.apply_overrides(experiment, ["fsdp=2", "per_device_batch_size=1"]),
        targets.tpu_target("v5e:2x2"),
    )
    assert found.target.count == 4
    assert found.target.spec == DEVICE_SPECS["TPU v5 lite"]
    assert found.fits_in_memory
    assert found.accumulation > 1
    times = [each.times for each in found.collectives if each.kind == "all-gather"]
    assert {1, found.accumulation} <= set(times)  # the student's once, the teacher's in every micro-batch
    with pytest.raises(ValueError, match="--topology v5e:3x3: .*not divisible"):
        targets.tpu_target("v5e:3x3")


def test_figures_of_vendors_have_their_order():
    def peak(name, dtype="bfloat16"):
        return DEVICE_SPECS[name].peak_flops(dtype)

    assert peak("T4") < peak("A100") < peak("H100") < peak("B200")
    assert peak("V100", "float16") > 5 * peak("V100")
    for device in DEVICE_SPECS.values():
        assert device.link < device.bandwidth
        assert min(device.flops.values()) > device.bandwidth
