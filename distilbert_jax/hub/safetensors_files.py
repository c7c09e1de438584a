"""The weights of a model folder: safetensors, one file or the shards of an index. Pickles are refused."""

import hashlib
import math
import pathlib
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import safetensors
import safetensors.numpy

from distilbert_jax.io import files, untrusted

MAX_HEADER_BYTES = 2**26  # bytes; a real one has some thousands
DTYPE_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


class ShardIndex(TypedDict):
    """model.safetensors.index.json: which file each tensor is in."""

    weight_map: dict[str, str]


class TensorEntry(TypedDict):
    """What a header says of a tensor."""

    dtype: str
    shape: list[int]
    data_offsets: list[int]


def find_weights(folder: pathlib.Path) -> list[pathlib.Path]:
    """The safetensors of a folder: one file, or those its index names."""
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if index.is_file():
        found = untrusted.read_json(index, ShardIndex, what="an index of safetensors")
        names = sorted(set(found["weight_map"].values()))
        for name in names:
            if pathlib.Path(name).name != name or not name.endswith(".safetensors"):
                raise ValueError(f"{index} names {name!r}, which is not a file in its folder")
            if not (folder / name).is_file():
                raise ValueError(f"{index} names {name}, which is missing")
        return [folder / name for name in names]
    pickles = sorted(folder.glob("pytorch_model*.bin"))
    if pickles:
        raise ValueError(
            f"{pickles[0]} is a pickle, and loading one can run any code; it is not read. Convert it where you trust "
            "it:\n"
            f"  pip install torch transformers\n"
            '  python -c "from transformers import AutoModelForMaskedLM as M; '
            f"M.from_pretrained('{folder}').save_pretrained('{folder}-safe')\"\n"
            f"  cp {folder}/tokenizer* {folder}/vocab.txt {folder}-safe/"
        )
    raise ValueError(f"{folder} is not a model folder: it has no model.safetensors")


def hash_weights(paths: Sequence[pathlib.Path]) -> str:
    """Of the one file, or of the sums of several."""
    sums = [files.sha256(path) for path in paths]
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()


def load_tensors(paths: Sequence[pathlib.Path]) -> dict[str, np.ndarray]:
    """Every tensor, as float32 where it is not of whole numbers. ValueError where a file is not as its header says."""
    tensors: dict[str, np.ndarray] = {}
    for path in paths:
        _check_header(path)
        try:
            loaded = safetensors.numpy.load_file(path)
        except safetensors.SafetensorError as error:
            raise ValueError(f"{path} is truncated or not a safetensors file: {error}") from None
        twice = loaded.keys() & tensors.keys()
        if twice:
            raise ValueError(f"{path} repeats {sorted(twice)[0]}, which another shard holds too")
        tensors |= loaded
    return {name: x if np.issubdtype(x.dtype, np.integer) else x.astype(np.float32) for name, x in tensors.items()}


def _check_header(path: pathlib.Path) -> None:
    """Before anything is allocated: eight bytes of length, then JSON, then exactly the bytes that it names."""
    refused, size = f"{path} is truncated or not a safetensors file", path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8 or length > MAX_HEADER_BYTES:
            raise ValueError(f"{refused}: its header would have {length:,} bytes, the file has {size:,}")
        header = file.read(length)
    try:
        text = header.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{refused}: its header is not UTF-8") from None
    entries: dict[str, Any] = untrusted.parse_json(text, dict[str, Any], where=str(path))
    total = 0
    for name, entry in entries.items():
        if name != "__metadata__":
            untrusted.check_shape(entry, TensorEntry, where=f"{path}: tensor {name}")
            total += _bytes(entry, f"{path}: tensor {name}")
    if total != size - 8 - length:
        raise ValueError(f"{refused}: its header names {total:,} bytes of tensors, {size - 8 - length:,} follow")


def _bytes(entry: TensorEntry, where: str) -> int:
    """Of a tensor. ValueError where it has none, or another number than its place in the file."""
    if entry["dtype"] not in DTYPE_BYTES:
        raise ValueError(f"{where} is of type {entry['dtype']!r}: only {', '.join(DTYPE_BYTES)} can be read")
    count = math.prod(entry["shape"]) * DTYPE_BYTES[entry["dtype"]]
    if any(length < 1 for length in entry["shape"]) or len(entry["shape"]) > 4:
        raise ValueError(f"{where} has the shape {entry['shape'][:8]}")
    if len(entry["data_offsets"]) != 2 or entry["data_offsets"][1] - entry["data_offsets"][0] != count:
        raise ValueError(f"{where} has {count:,} bytes, but its place is {entry['data_offsets'][:4]}")
    return count
