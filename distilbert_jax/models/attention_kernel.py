"""Chooses the attention kernel for a model and the device, and checks that it computes attention."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from distilbert_jax.io.console import console
from distilbert_jax.models.attention import AttentionKernel, attend, segment_mask
from distilbert_jax.models.transformer import TransformerConfig

CHECK_SEGMENT_IDS = (1,) * 24 + (2,) * 32 + (0,) * 8
"""The row that a kernel is checked on: two documents and padding."""

MAX_RELATIVE_ERROR = {"float32": 1e-4, "bfloat16": 0.05, "float16": 0.01}
"""How far a kernel may differ from attention in float64, relative to the largest value, for each dtype."""

_ADVICE = "Update JAX and the driver of the device, or use another device."


def choose_attention_kernel(config: TransformerConfig, *, role: Literal["student", "teacher"]) -> TransformerConfig:
    """Returns `config` with the attention kernel to use, and prints which one it is and why.

    cuDNN's kernel is chosen on an NVIDIA GPU, in bfloat16 or float16 and without attention dropout, if it passes
    `check_kernel`. In all other cases XLA's is chosen.

    Args:
        config: the config of the model.
        role: what the model is in this run. A teacher runs without dropout, whatever its config says.

    Raises:
        ValueError: XLA's kernel does not pass `check_kernel`.
    """
    reason = _reason_against_cudnn(config, role)
    if reason is None:
        try:
            check_kernel("cudnn", config)
            console.print(
                f"The {role} uses cuDNN's attention kernel. It was checked: it keeps packed documents apart and agrees "
                "with attention in float64."
            )
            return dataclasses.replace(config, attention="cudnn")
        except Exception as error:  # libraries and drivers raise many kinds of errors; the message is shown
            message = str(error).splitlines()[0] if str(error) else repr(error)
            reason = f"cuDNN's kernel does not work on this machine ({message})"
    check_kernel("xla", config)
    console.print(
        f"The {role} uses XLA's attention kernel, because {reason}. It was checked: it keeps packed documents apart."
    )
    return dataclasses.replace(config, attention="xla")


def _reason_against_cudnn(config: TransformerConfig, role: str) -> str | None:
    """Returns why cuDNN's kernel cannot be used, as the end of a sentence, or None if it can be tried."""
    device = jax.devices()[0]
    if device.platform != "gpu" or "nvidia" not in device.device_kind.lower():
        return f"the device is {device.device_kind}"
    if config.dtype == "float32":
        return "dtype is float32 and cuDNN's kernel needs bfloat16 or float16"
    if role == "student" and config.attention_dropout:
        return (
            f"attention_dropout is {config.attention_dropout} and cuDNN's kernel has no dropout; XLA's writes "
            f"{config.num_heads} probabilities for every pair of tokens of a row to memory, in each layer"
        )
    return None


def check_kernel(kernel: AttentionKernel, config: TransformerConfig) -> None:
    """Computes attention on a small packed row on this device and checks the result.

    Args:
        kernel: the kernel to check.
        config: the config of the model, which gives the number of heads, their size and the dtype.

    Raises:
        ValueError: the result of one document depends on the other (it must be the same bit for bit), the result for
            padding is not finite, or the result differs from attention in float64.
    """
    shape = (1, len(CHECK_SEGMENT_IDS), config.num_heads, config.hidden_size // config.num_heads)
    random = np.random.default_rng(0)
    q, k, v, other = (jnp.asarray(random.normal(size=shape), config.dtype) for _ in range(4))
    segment_ids = jnp.asarray([CHECK_SEGMENT_IDS])

    @jax.jit
    def run(q, k, v):
        return attend(q, k, v, segment_mask(segment_ids), keys=None, dropout=0.0, kernel=kernel)

    # The same row again, with other keys and large values in the second document only.
    in_second = (segment_ids == CHECK_SEGMENT_IDS[24])[..., None, None]
    actual = _to_float64(run(q, k, v))
    changed = _to_float64(run(q, jnp.where(in_second, other, k), jnp.where(in_second, 100 * other, v)))
    in_first = np.asarray(segment_ids[0] == CHECK_SEGMENT_IDS[0])
    wrong = f"attention on this device is wrong (kernel {kernel})"
    if not np.array_equal(actual[:, in_first], changed[:, in_first]):
        raise ValueError(f"{wrong}: a document attends to the one packed next to it. {_ADVICE}")
    if not (np.isfinite(actual).all() and np.isfinite(changed).all()):
        raise ValueError(f"{wrong}: the result for padding is not finite. {_ADVICE}")
    expected = _reference_attention(
        _to_float64(q), _to_float64(k), _to_float64(v), np.asarray(segment_mask(segment_ids))
    )
    is_token = np.asarray(segment_ids[0] > 0)
    error = np.abs(actual - expected)[:, is_token].max() / np.abs(expected[:, is_token]).max()
    limit = MAX_RELATIVE_ERROR[config.dtype]
    if not error <= limit:
        raise ValueError(
            f"{wrong}: the result differs from attention in float64 by {error:.1e} of the largest "
            f"value, and at most {limit:.1e} is allowed. {_ADVICE}"
        )


def _to_float64(x: Float[Array, "..."]) -> np.ndarray:
    """Returns `x` as a NumPy array of float64."""
    return np.asarray(x, np.float64)


def _reference_attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
    """Returns attention, written out in NumPy. The arguments are those of `attend`."""
    scores = np.einsum("bthk,buhk->bhtu", q, k) / np.sqrt(q.shape[-1])
    scores = np.where(attention_mask[:, None], scores, -1e30)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bhtu,buhk->bthk", weights / weights.sum(-1, keepdims=True), v)
