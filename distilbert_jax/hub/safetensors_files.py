"""Reads the weights of a model folder: one safetensors file, or the shards that an index names.

Files are not trusted: their headers are checked before anything is allocated, and pickles are refused.
"""

import hashlib
import math
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import safetensors
import safetensors.numpy

from distilbert_jax.data.tokenizer.settings import TOKENIZER_FILES
from distilbert_jax.io import files, untrusted

MAX_HEADER_BYTES = 2**26  # those of real models have thousands
DTYPE_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_ADVICE = "download the model again"


class ShardIndex(TypedDict):
    """The content of model.safetensors.index.json: the file that each tensor is in."""

    weight_map: dict[str, str]


class TensorEntry(TypedDict):
    """The description of a tensor in the header of a file."""

    dtype: str
    shape: list[int]
    data_offsets: list[int]


def find_weights(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the safetensors files of a folder: one file, or those that its index names.

    Raises:
        ValueError: the folder has no safetensors, or its index names a file that is missing or is not in the folder.
    """
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if index.is_file():
        content = untrusted.read_json(index, ShardIndex, what="an index of safetensors")
        names = sorted(set(content["weight_map"].values()))
        for name in names:
            if pathlib.Path(name).name != name or not name.endswith(".safetensors"):
                raise ValueError(f"{index} names {name!r}, which is not a file in its folder; {_ADVICE}")
            if not (folder / name).is_file():
                raise ValueError(f"{index} names {name}, which is missing; {_ADVICE}")
        return [folder / name for name in names]
    pickles = sorted(folder.glob("pytorch_model*.bin"))
    if pickles:
        target = f"{folder}-safe"
        copied = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
        raise ValueError(
            f"{pickles[0]} is a pickle, which can run any code when it is loaded, so it is not loaded. If you trust "
            "it, convert it:\n"
            f"  pip install torch transformers\n"
            '  python -c "from transformers import AutoModelForMaskedLM as M; '
            f"M.from_pretrained('{folder}').save_pretrained('{target}')\"\n"
            f"  cp {' '.join(shlex.quote(str(path)) for path in copied)} {shlex.quote(target)}"
        )
    raise ValueError(f"{folder} is not a model folder: it has no model.safetensors")


def hash_weights(paths: Sequence[pathlib.Path]) -> str:
    """Returns the SHA-256 of the one file or, if there are several, of their concatenated hex digests."""
    digests = [files.sha256(path) for path in paths]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def load_tensors(paths: Sequence[pathlib.Path]) -> dict[str, np.ndarray]:
    """Returns all tensors by name. Integers keep their type; floating point numbers and booleans become float32.

    Raises:
        ValueError: a file does not match its header, two files hold the same tensor, or a number is not finite.
    """
    tensors: dict[str, np.ndarray] = {}
    for path in paths:
        _check_header(path)
        try:
            loaded = safetensors.numpy.load_file(path)
        except safetensors.SafetensorError as error:
            raise ValueError(f"{path} is truncated or not a safetensors file: {error}; {_ADVICE}") from None
        repeated = loaded.keys() & tensors.keys()
        if repeated:
            raise ValueError(
                f"{path} holds the tensor {sorted(repeated)[0]}, which another shard holds, too; {_ADVICE}"
            )
        tensors |= loaded
    tensors = {name: x if np.issubdtype(x.dtype, np.integer) else x.astype(np.float32) for name, x in tensors.items()}
    _check_finite(tensors, paths)
    return tensors


def _check_finite(tensors: Mapping[str, np.ndarray], paths: Sequence[pathlib.Path]) -> None:
    """Raises ValueError that names the first tensor with NaN or infinity."""
    for name, x in tensors.items():
        # A sum takes half the time of a look at each number. It is finite only if all numbers are.
        with np.errstate(all="ignore"):
            if np.isfinite(x.sum()):
                continue
        bad = int(np.count_nonzero(~np.isfinite(x)))
        if bad:
            where = paths[0] if len(paths) == 1 else paths[0].parent
            raise ValueError(
                f"{where}: {bad:,} of the {x.size:,} numbers of the tensor {name} are NaN or infinite in float32, so "
                "the model cannot be used; choose an earlier checkpoint of it, or another model"
            )


def _check_header(path: pathlib.Path) -> None:
    """Raises ValueError if a file is not as its header says, before anything is allocated.

    A file has eight bytes with the length of the header, the header as JSON, and exactly the bytes that it names.
    """
    problem, size = f"{path} is truncated or not a safetensors file", path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8 or length > MAX_HEADER_BYTES:
            raise ValueError(
                f"{problem}: it says that its header has {length:,} bytes, but the file has {size:,}, and a header "
                f"may have at most {MAX_HEADER_BYTES:,}; {_ADVICE}"
            )
        header = file.read(length)
    try:
        text = header.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{problem}: its header is not UTF-8; {_ADVICE}") from None
    entries: dict[str, Any] = untrusted.parse_json(text, dict[str, Any], where=str(path))
    total = 0
    for name, entry in entries.items():
        if name != "__metadata__":
            untrusted.check_shape(entry, TensorEntry, where=f"{path}: tensor {name}")
            total += _tensor_bytes(entry, f"{path}: tensor {name}")
    if total != size - 8 - length:
        raise ValueError(
            f"{problem}: its header names {total:,} bytes of tensors, but {size - 8 - length:,} bytes follow; {_ADVICE}"
        )


def _tensor_bytes(entry: TensorEntry, where: str) -> int:
    """Returns the size of a tensor. Raises ValueError if it is empty, or not the size of its range in the file."""
    if entry["dtype"] not in DTYPE_BYTES:
        raise ValueError(f"{where} has the dtype {entry['dtype']!r}, but only {', '.join(DTYPE_BYTES)} can be read")
    num_bytes = math.prod(entry["shape"]) * DTYPE_BYTES[entry["dtype"]]
    if any(length < 1 for length in entry["shape"]) or len(entry["shape"]) > 4:
        raise ValueError(
            f"{where} has the shape {entry['shape'][:8]}; at most four axes, each of at least 1, can be read"
        )
    if len(entry["data_offsets"]) != 2 or entry["data_offsets"][1] - entry["data_offsets"][0] != num_bytes:
        raise ValueError(
            f"{where} has {num_bytes:,} bytes, but its range in the file is {entry['data_offsets'][:4]}; {_ADVICE}"
        )
    return num_bytes
