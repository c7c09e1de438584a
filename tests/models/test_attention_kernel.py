"""The kernel of attention is chosen for the device, said, and checked: a kernel that lets documents see each other, or
is something else than attention, is not used.
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
def test_on_a_cpu_xla_is_taken_and_passes(dtype, capsys):
    config = tiny_config(dtype=dtype, attention="cudnn")
    assert attention_kernel.choose_attention_kernel(config, role="student").attention == "xla"
    assert "attention of the student: XLA's, since the device is cpu; packed documents are apart" in said(capsys)


def said(capsys):
    return " ".join(capsys.readouterr().out.split())


def everybody(segments):
    return jnp.ones((*segments.shape, segments.shape[1]), bool)


def test_documents_that_see_each_other_are_refused(monkeypatch):
    monkeypatch.setattr(attention_kernel, "segment_mask", everybody)
    with pytest.raises(ValueError, match="kernel xla: a document sees the one packed beside it"):
        attention_kernel.check_kernel("xla", tiny_config())


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda q, k, v, sees, **how: attention.attend(2 * q, k, v, sees, **how), "from what attention should be"),
        (lambda q, k, v, sees, **how: jnp.where(sees.any(-1)[..., None, None], q, jnp.nan), "padding is not finite"),
    ],
)
def test_what_is_no_attention_is_refused(monkeypatch, wrong, message):
    monkeypatch.setattr(attention_kernel, "attend", wrong)
    with pytest.raises(ValueError, match=message):
        attention_kernel.check_kernel("xla", tiny_config())


@pytest.mark.parametrize(
    "who, changes, reason",
    [
        ("teacher", {"dtype": "bfloat16"}, None),  # a teacher has no dropout
        ("student", {"dtype": "bfloat16", "attention_dropout": 0.0}, None),
        ("student", {"dtype": "bfloat16"}, "attention_dropout is 0.1 and cuDNN's applies none"),
        ("teacher", {}, "dtype is float32"),
    ],
)
def test_on_an_nvidia_gpu(monkeypatch, capsys, who, changes, reason):
    """With a cuDNN that computes what it should: XLA stands in for it."""
    stand_in = lambda q, k, v, sees, *, kernel, **how: attention.attend(q, k, v, sees, **how)
    monkeypatch.setattr(jax, "devices", lambda: [GPU])
    monkeypatch.setattr(attention_kernel, "attend", stand_in)
    config = attention_kernel.choose_attention_kernel(tiny_config(**changes), role=who)
    assert config.attention == ("xla" if reason else "cudnn")
    assert (reason or f"attention of the {who}: cuDNN's; packed documents are apart") in said(capsys)


def test_a_cudnn_that_fails_is_left_aloud(monkeypatch, capsys):
    """As here, where there is none."""
    monkeypatch.setattr(jax, "devices", lambda: [GPU])
    config = tiny_config(dtype="bfloat16", attention_dropout=0.0)
    assert attention_kernel.choose_attention_kernel(config, role="student").attention == "xla"
    assert "XLA's, since cuDNN's cannot be used here (" in said(capsys)


def test_dropout_is_never_left_out():
    config = dataclasses.replace(tiny_config(), attention="cudnn")
    x = jnp.ones((1, 4, 2, 8), jnp.bfloat16)
    keys = jax.random.split(jax.random.key(0), 1)
    with pytest.raises(ValueError, match="cuDNN's attention applies no dropout, and attention_dropout is 0.1"):
        attention.attend(x, x, x, jnp.ones((1, 4, 4), bool), keys=keys, dropout=0.1, kernel=config.attention)
