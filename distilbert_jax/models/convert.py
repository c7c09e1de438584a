"""Weights by another name: a family's tables of names, read in both directions.

The encoder is strict. A head is read whole or not at all (then the caller creates it, and says so). Tensors of other
heads are listed, a tied weight that differs from its twin and a name no table knows are errors: nothing is ever dropped
in silence.
"""

import dataclasses
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from distilbert_jax.models.transformer import TransformerConfig

Tensors = Mapping[str, np.ndarray]


class _TensorMap(Protocol):
    def __call__(self, x: np.ndarray, heads: int, /) -> np.ndarray: ...


class TensorLayout(NamedTuple):
    """`ours` turns a tensor of the checkpoint, (out, in) as PyTorch has it, into ours for `heads` heads; `theirs`
    turns it back.
    """

    from_hub: _TensorMap
    to_hub: _TensorMap


TENSOR_LAYOUTS = {
    "same": TensorLayout(lambda x, h: x, lambda x, h: x),
    "dense": TensorLayout(lambda x, h: x.T, lambda x, h: x.T),
    "to_heads": TensorLayout(lambda x, h: x.T.reshape(x.shape[1], h, -1), lambda x, h: x.reshape(x.shape[0], -1).T),
    "heads": TensorLayout(lambda x, h: x.reshape(h, -1), lambda x, h: x.reshape(-1)),
    "from_heads": TensorLayout(lambda x, h: x.T.reshape(h, -1, x.shape[0]), lambda x, h: x.reshape(-1, x.shape[-1]).T),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertedWeights:
    """What was found in a checkpoint. Without the head, `params` holds the encoder alone, or with it what stands before
    the output layer (a pretrained pooler).
    """

    params: dict[str, Any]
    has_head: bool
    unused: tuple[str, ...]  # tensors of other heads, by name


def from_hub(
    family: ModuleType, config: TransformerConfig, tensors: Tensors, *, head: str, like: Mapping[str, Any]
) -> ConvertedWeights:
    """Reads a checkpoint into the tree of `like` (arrays or their shapes, as the model's `init` gives them).

    Raises ValueError if an encoder tensor is missing, a head is there in part, a tied weight differs, or a name or
    shape is unknown.
    """
    tensors = _untie(family, _normalize(family, tensors))
    encoder = _expand(family.ENCODER, config, prefix="encoder/")
    heads = {name: _expand(table, config) for name, table in family.HEADS.items()}
    there, missing = heads[head].keys() & tensors.keys(), heads[head].keys() - tensors.keys()
    _demand(encoder.keys() - tensors.keys(), "missing from the encoder")
    if there and missing != _output(heads[head]):
        _demand(missing, f"missing from the {head} head, which is there in part")
    table = encoder | {name: heads[head][name] for name in there}
    unused = sorted(name for name in tensors.keys() - table.keys() if name.startswith(_of_heads(family)))
    _demand(tensors.keys() - table.keys() - set(unused), "unknown to this family, so part of the model would be lost")

    shapes = {ours: x.shape for ours, x in flatten_dict(like, sep="/").items()}
    flat = {}
    for theirs, (ours, layout) in table.items():
        wanted = TENSOR_LAYOUTS[layout].to_hub(np.broadcast_to(np.float32(0), shapes[ours]), config.num_heads).shape
        if tensors[theirs].shape != wanted:
            raise ValueError(f"tensor {theirs} has shape {tensors[theirs].shape}, but config.json asks for {wanted}")
        flat[ours] = TENSOR_LAYOUTS[layout].from_hub(tensors[theirs], config.num_heads)
    return ConvertedWeights(params=unflatten_dict(flat, sep="/"), has_head=not missing, unused=tuple(unused))


def to_hub(
    family: ModuleType, config: TransformerConfig, params: Mapping[str, Any], *, head: str
) -> dict[str, np.ndarray]:
    """The checkpoint of `params`, tied weights left out; the inverse of `load`."""
    table = _expand(family.ENCODER, config, prefix="encoder/") | _expand(family.HEADS[head], config)
    flat = flatten_dict(params, sep="/")
    _demand(flat.keys() - {ours for ours, _ in table.values()}, "without a name in this family")
    return {
        theirs: np.ascontiguousarray(TENSOR_LAYOUTS[layout].to_hub(np.asarray(flat[ours]), config.num_heads))
        for theirs, (ours, layout) in table.items()
    }


def _of_heads(family: ModuleType) -> tuple[str, ...]:
    """How names of head tensors begin, whichever head it is."""
    return (*family.OTHER_HEADS, *(name for table in family.HEADS.values() for name in table))


def _output(head: Mapping[str, tuple[str, str]]) -> set[str]:
    """The tensors of a head's last layer, which a task brings new."""
    return {theirs for theirs, (ours, _) in head.items() if ours.startswith("classifier/")}


def _expand(
    table: Mapping[str, tuple[str, str]], config: TransformerConfig, *, prefix: str = ""
) -> dict[str, tuple[str, str]]:
    """One entry a layer where a name has `{i}`."""
    return {
        theirs.format(i=i): (prefix + ours.format(i=i), layout)
        for theirs, (ours, layout) in table.items()
        for i in (range(config.num_layers) if "{i}" in theirs else [0])
    }


def _normalize(family: ModuleType, tensors: Tensors) -> dict[str, np.ndarray]:
    """One spelling: LayerNorm weight and bias instead of gamma and beta, the family's prefix on the encoder, no
    buffers.
    """
    names = {
        name: name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        for name in tensors
    }
    if not any(name.startswith(family.PREFIX) for name in tensors):
        heads = (*_of_heads(family), *family.TIED)
        names = {old: new if new.startswith(heads) else family.PREFIX + new for old, new in names.items()}
    return {new: tensors[old] for old, new in names.items() if new not in family.BUFFERS}


def _untie(family: ModuleType, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Each tied weight once, under its twin's name."""
    single = {name: x for name, x in tensors.items() if name not in family.TIED}
    for name in family.TIED.keys() & tensors.keys():
        twin = family.TIED[name]
        if not np.array_equal(tensors[name], single.setdefault(twin, tensors[name])):
            raise ValueError(
                f"{name} differs from {twin}: this model's output layer is not tied to its word embeddings, and only "
                "tied ones can be read"
            )
    return single


def _demand(names: Any, what: str) -> None:
    """An error that lists the names, unless there are none."""
    if names:
        few = sorted(names)
        raise ValueError(f"{len(few)} tensors are {what}: {', '.join(few[:5])}{', …' if len(few) > 5 else ''}")
