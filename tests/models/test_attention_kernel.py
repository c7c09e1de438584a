"""Tests the choice of the attention kernel, and that a kernel is refused if it lets packed documents see each other or
computes something else than attention.
"""

import dataclasses
import types

import jax
import jax.numpy as jnp
import pytest

from distilbert_jax.models import attention, attention_kernel
from tests.conftest import tiny_config

GPU = types.SimpleNamespace(platform="gpu", device_kind="NVIDIA T100")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_on_a_cpu_xla_is_chosen_and_passes_the_check(dtype, capsys):
    config = tiny_config(dtype=dtype, attention="cudnn")
    assert attention_kernel.choose_attention_kernel(config, role="student").attention == "xla"
    message = "The student uses XLA's attention kernel, because the device is cpu. It was checked"
    assert f"{message}: it keeps packed documents apart." in read_output(capsys)


def read_output(capsys):
    """Returns what was printed, without line breaks."""
    return " ".join(capsys.readouterr().out.split())


def full_mask(segment_ids):
    return jnp.ones((*segment_ids.shape, segment_ids.shape[1]), bool)


def test_documents_that_see_each_other_are_refused(monkeypatch):
    monkeypatch.setattr(attention_kernel, "segment_mask", full_mask)
    message = r"attention on this device is wrong \(kernel xla\): a document attends to the one packed next to it"
    with pytest.raises(ValueError, match=message):
        attention_kernel.check_kernel("xla", tiny_config())


@pytest.mark.parametrize(
    "wrong, message",
    [
        (
            lambda q, k, v, mask, **options: attention.attend(2 * q, k, v, mask, **options),
            "differs from attention in float64 by .* of the largest value",
        ),
        (
            lambda q, k, v, mask, **options: jnp.where(mask.any(-1)[..., None, None], q, jnp.nan),
            "the result for padding is not finite",
        ),
    ],
)
def test_a_wrong_kernel_is_refused(monkeypatch, wrong, message):
    monkeypatch.setattr(attention_kernel, "attend", wrong)
    with pytest.raises(ValueError, match=message):
        attention_kernel.check_kernel("xla", tiny_config())


@pytest.mark.parametrize(
    "role, changes, reason",
    [
        ("teacher", {"dtype": "bfloat16"}, None),  # a teacher has no dropout
        ("student", {"dtype": "bfloat16", "attention_dropout": 0.0}, None),
        ("student", {"dtype": "bfloat16"}, "attention_dropout is 0.1 and cuDNN's kernel has no dropout"),
        ("teacher", {}, "dtype is float32"),
    ],
)
def test_on_an_nvidia_gpu(monkeypatch, capsys, role, changes, reason):
    """XLA replaces cuDNN here, so the kernel is correct."""

    def attend(q, k, v, mask, *, kernel, **options):
        return attention.attend(q, k, v, mask, **options)

    monkeypatch.setattr(jax, "devices", lambda: [GPU])
    monkeypatch.setattr(attention_kernel, "attend", attend)
    config = attention_kernel.choose_attention_kernel(tiny_config(**changes), role=role)
    assert config.attention == ("xla" if reason else "cudnn")
    chosen = (
        f"The {role} uses cuDNN's attention kernel. It was checked: it keeps packed documents apart and agrees with"
    )
    assert (reason or chosen) in read_output(capsys)


def test_a_cudnn_that_fails_is_replaced_with_a_message(monkeypatch, capsys):
    """cuDNN fails here, since this machine has none."""
    monkeypatch.setattr(jax, "devices", lambda: [GPU])
    config = tiny_config(dtype="bfloat16", attention_dropout=0.0)
    assert attention_kernel.choose_attention_kernel(config, role="student").attention == "xla"
    assert "XLA's attention kernel, because cuDNN's kernel does not work on this machine (" in read_output(capsys)


def test_dropout_is_never_left_out():
    config = dataclasses.replace(tiny_config(), attention="cudnn")
    x = jnp.ones((1, 4, 2, 8), jnp.bfloat16)
    keys = jax.random.split(jax.random.key(0), 1)
    with pytest.raises(ValueError, match="cuDNN's attention kernel has no dropout, but attention_dropout is 0.1"):
        attention.attend(x, x, x, jnp.ones((1, 4, 4), bool), keys=keys, dropout=0.1, kernel=config.attention)
