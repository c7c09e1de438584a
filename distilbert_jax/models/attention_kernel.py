"""Which attention kernel the device at hand gets, what is said of it, and the check that it keeps documents apart."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from distilbert_jax.io.console import console
from distilbert_jax.models.attention import AttentionKernel, attend, segment_mask
from distilbert_jax.models.transformer import TransformerConfig

CHECK_SEGMENT_IDS = (1,) * 24 + (2,) * 32 + (0,) * 8  # two documents, and padding
MAX_RELATIVE_ERROR = {
    "float32": 1e-4,
    "bfloat16": 0.05,
    "float16": 0.01,
}  # of the largest value: how far two kernels may differ


def choose_attention_kernel(config: TransformerConfig, *, role: Literal["student", "teacher"]) -> TransformerConfig:
    """The shape with the kernel that suits it and the device, checked on it. Says which, and why. A teacher has no
    dropout, whatever its config says.

    cuDNN's is taken on an NVIDIA GPU in 16 bits without attention dropout, if it passes the check; else XLA's. Raises
    ValueError where XLA's does not pass.
    """
    hindered = _hindered(config, role)
    if hindered is None:
        try:
            check_kernel("cudnn", config)
            console.print(f"attention of the {role}: cuDNN's; packed documents are apart, and XLA's gives the same")
            return dataclasses.replace(config, attention="cudnn")
        except Exception as error:  # whatever a library and a driver say of each other: it is shown
            hindered = f"cuDNN's cannot be used here ({str(error).splitlines()[0] if str(error) else error!r})"
    check_kernel("xla", config)
    console.print(f"attention of the {role}: XLA's, since {hindered}; packed documents are apart")
    return dataclasses.replace(config, attention="xla")


def _hindered(config: TransformerConfig, who: str) -> str | None:
    """Why cuDNN's kernel is not to be tried."""
    device = jax.devices()[0]
    if device.platform != "gpu" or "nvidia" not in device.device_kind.lower():
        return f"the device is {device.device_kind}"
    if config.dtype == "float32":
        return "dtype is float32, and cuDNN's has 16 bits"
    if who == "student" and config.attention_dropout:
        return (
            f"attention_dropout is {config.attention_dropout} and cuDNN's applies none: the probabilities stand in "
            f"memory, {config.num_heads} for every pair of tokens of a row in each layer, and are written and read anew"
        )
    return None


def check_kernel(kernel: AttentionKernel, config: TransformerConfig) -> None:
    """ValueError unless, on this device, tokens of one document are the same to the bit whatever stands in the other,
    padding is finite, and the kernel agrees with attention written out in float64.
    """
    shape = (1, len(CHECK_SEGMENT_IDS), config.num_heads, config.hidden_size // config.num_heads)
    random = np.random.default_rng(0)
    q, k, v, other = (jnp.asarray(random.normal(size=shape), config.dtype) for _ in range(4))
    segments = jnp.asarray([CHECK_SEGMENT_IDS])
    second = (segments == CHECK_SEGMENT_IDS[24])[..., None, None]
    run = jax.jit(lambda q, k, v: attend(q, k, v, segment_mask(segments), keys=None, dropout=0.0, kernel=kernel))
    got = _wide(run(q, k, v))
    changed = _wide(run(q, jnp.where(second, other, k), jnp.where(second, 100 * other, v)))
    first = np.asarray(segments[0] == CHECK_SEGMENT_IDS[0])
    if not np.array_equal(got[:, first], changed[:, first]):
        raise ValueError(f"attention kernel {kernel}: a document sees the one packed beside it")
    if not (np.isfinite(got).all() and np.isfinite(changed).all()):
        raise ValueError(f"attention kernel {kernel}: padding is not finite")
    wanted = _written_out(_wide(q), _wide(k), _wide(v), np.asarray(segment_mask(segments)))
    real = np.asarray(segments[0] > 0)
    apart = np.abs(got - wanted)[:, real].max() / np.abs(wanted[:, real]).max()
    if not apart <= MAX_RELATIVE_ERROR[config.dtype]:
        raise ValueError(f"attention kernel {kernel}: {apart:.1e} of the largest value from what attention should be")


def _wide(x: Float[Array, "..."]) -> np.ndarray:
    return np.asarray(x, np.float64)


def _written_out(q: np.ndarray, k: np.ndarray, v: np.ndarray, sees: np.ndarray) -> np.ndarray:
    scores = np.einsum("bthk,buhk->bhtu", q, k) / np.sqrt(q.shape[-1])
    scores = np.where(sees[:, None], scores, -1e30)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bhtu,buhk->bthk", weights / weights.sum(-1, keepdims=True), v)
