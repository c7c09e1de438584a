"""Converts weights between checkpoints of the Hub and our parameters, by the tables of names in `families/`.

No tensor of a checkpoint is left out without a report:

    - Every tensor of the encoder must be there.
    - The head must be complete, or its output layer or all of it must be missing. The caller then initializes it.
    - Tensors of other heads are not read, but listed in `ConvertedWeights.unused`.
    - A tied weight must equal the weight that it is tied to.
    - A name that is in no table is an error.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from distilbert_jax.models.transformer import TransformerConfig

Tensors = Mapping[str, np.ndarray]
"""The tensors of a checkpoint, by their names on the Hub."""


_SHAPE_ADVICE = "Check that config.json belongs to these weights."
_MISSING_ADVICE = "The weights are incomplete, or config.json belongs to another model: download both again."
_UNKNOWN_ADVICE = (
    "The weights may have another architecture than model_type in config.json says, or more layers: check that "
    "config.json belongs to these weights."
)
_SAVE_ADVICE = "Add them to the tables of the family, or choose another family for the export."


class _TensorMap(Protocol):
    """A function from a tensor and the number of attention heads to the same tensor in another layout."""

    def __call__(self, x: np.ndarray, heads: int, /) -> np.ndarray: ...


class TensorLayout(NamedTuple):
    """The conversion of a tensor between PyTorch's layout, where a dense kernel is (out, in), and ours."""

    from_hub: _TensorMap
    to_hub: _TensorMap


TENSOR_LAYOUTS = {
    "same": TensorLayout(lambda x, h: x, lambda x, h: x),
    "dense": TensorLayout(lambda x, h: x.T, lambda x, h: x.T),
    "to_heads": TensorLayout(lambda x, h: x.T.reshape(x.shape[1], h, -1), lambda x, h: x.reshape(x.shape[0], -1).T),
    "heads": TensorLayout(lambda x, h: x.reshape(h, -1), lambda x, h: x.reshape(-1)),
    "from_heads": TensorLayout(lambda x, h: x.T.reshape(h, -1, x.shape[0]), lambda x, h: x.reshape(-1, x.shape[-1]).T),
}
"""The layouts that the tables of names refer to, with shapes on the Hub and here; h heads of k values each:

    same         an embedding, a bias or a LayerNorm    any shape      →  the same
    dense        a kernel                               (out, in)      →  (in, out)
    to_heads     a kernel of queries, keys or values    (h · k, in)    →  (in, h, k)
    heads        the bias of such a kernel              (h · k)        →  (h, k)
    from_heads   the kernel of the attention's output   (out, h · k)   →  (h, k, out)
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertedWeights:
    """The parameters read from a checkpoint."""

    params: dict[str, Any]  # the encoder, and the layers of the head that the checkpoint has
    has_head: bool  # False if the output layer is missing; a pooler before it may have been read
    unused: tuple[str, ...]  # names of the tensors that belong to other heads


def from_hub(
    family: ModuleType, config: TransformerConfig, tensors: Tensors, *, head: str, like: Mapping[str, Any]
) -> ConvertedWeights:
    """Returns our parameters for the tensors of a checkpoint.

    Args:
        family: the module of the model's family, from `families/`.
        config: the config of the encoder.
        tensors: the tensors of the checkpoint.
        head: the name of the head to read, a key of `family.HEADS`.
        like: the tree of the model's parameters, as arrays or their shapes; it gives the expected shapes.

    Raises:
        ValueError: a tensor of the encoder or a part of the head is missing, a tied weight differs, a name is not in
            the tables, or a tensor has another shape than `config` says.
    """
    tensors = _untie(family, _normalize(family, tensors), is_used=head == "masked_lm")
    encoder = _expand(family.ENCODER, config, prefix="encoder/")
    heads = {name: _expand(table, config) for name, table in family.HEADS.items()}
    present, missing = heads[head].keys() & tensors.keys(), heads[head].keys() - tensors.keys()
    _raise_if_any(encoder.keys() - tensors.keys(), "missing from the encoder", advice=_MISSING_ADVICE)
    # A head may lack all of its tensors, or just its output layer, which is new for each task. BERT has a pretrained
    # pooler without a classifier, for example.
    if present and missing != _output_layer(heads[head]):
        _raise_if_any(
            missing, f"missing from the {head} head, which has only some of its tensors", advice=_MISSING_ADVICE
        )
    table = encoder | {name: heads[head][name] for name in present}
    unused = sorted(name for name in tensors.keys() - table.keys() if name.startswith(_head_prefixes(family)))
    _raise_if_any(
        tensors.keys() - table.keys() - set(unused),
        "unknown to this family, so part of the model would be lost",
        advice=_UNKNOWN_ADVICE,
    )

    shapes = {our_name: x.shape for our_name, x in flatten_dict(like, sep="/").items()}
    params = {}
    for hub_name, (our_name, layout) in table.items():
        # The expected shape is that of our parameter in the Hub's layout. The broadcast array takes no memory.
        placeholder = np.broadcast_to(np.float32(0), shapes[our_name])
        expected = TENSOR_LAYOUTS[layout].to_hub(placeholder, config.num_heads).shape
        if tensors[hub_name].shape != expected:
            raise ValueError(
                f"tensor {hub_name} has shape {tensors[hub_name].shape}, but config.json asks for {expected}. "
                f"{_SHAPE_ADVICE}"
            )
        params[our_name] = TENSOR_LAYOUTS[layout].from_hub(tensors[hub_name], config.num_heads)
    return ConvertedWeights(params=unflatten_dict(params, sep="/"), has_head=not missing, unused=tuple(unused))


def to_hub(
    family: ModuleType, config: TransformerConfig, params: Mapping[str, Any], *, head: str
) -> dict[str, np.ndarray]:
    """Returns the tensors of a checkpoint for our parameters: the inverse of `from_hub`.

    Tied weights are left out, as in the checkpoints of Transformers.

    Args:
        family: the module of the model's family, from `families/`.
        config: the config of the encoder.
        params: the parameters of the encoder and the head.
        head: the name of the head, a key of `family.HEADS`.

    Raises:
        ValueError: a parameter has no name in the tables of the family.
    """
    table = _expand(family.ENCODER, config, prefix="encoder/") | _expand(family.HEADS[head], config)
    flat_params = flatten_dict(params, sep="/")
    _raise_if_any(
        flat_params.keys() - {our_name for our_name, _ in table.values()},
        "without a name in this family",
        advice=_SAVE_ADVICE,
        noun="parameter",
    )
    return {
        hub_name: np.ascontiguousarray(
            TENSOR_LAYOUTS[layout].to_hub(np.asarray(flat_params[our_name]), config.num_heads)
        )
        for hub_name, (our_name, layout) in table.items()
    }


def _head_prefixes(family: ModuleType) -> tuple[str, ...]:
    """Returns the prefixes of the names of all tensors that belong to a head, on the Hub."""
    return (*family.OTHER_HEADS, *(name for table in family.HEADS.values() for name in table))


def _output_layer(head: Mapping[str, tuple[str, str]]) -> set[str]:
    """Returns the Hub's names of the tensors of a head's output layer."""
    return {hub_name for hub_name, (our_name, _) in head.items() if our_name.startswith("classifier/")}


def _expand(
    table: Mapping[str, tuple[str, str]], config: TransformerConfig, *, prefix: str = ""
) -> dict[str, tuple[str, str]]:
    """Returns a table with one entry for each layer in place of an entry whose name has `{i}`.

    Args:
        table: from the name on the Hub to (our name, layout).
        config: the config of the encoder, which gives the number of layers.
        prefix: is put before our names.
    """
    return {
        hub_name.format(i=i): (prefix + our_name.format(i=i), layout)
        for hub_name, (our_name, layout) in table.items()
        for i in (range(config.num_layers) if "{i}" in hub_name else [0])
    }


def _normalize(family: ModuleType, tensors: Tensors) -> dict[str, np.ndarray]:
    """Returns the tensors under the names that the tables have.

    Old checkpoints say gamma and beta for LayerNorm's weight and bias, those of a bare encoder have no prefix, and
    some store buffers, which are not parameters.
    """
    names = {
        name: name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        for name in tensors
    }
    if not any(name.startswith(family.PREFIX) for name in tensors):
        heads = (*_head_prefixes(family), *family.TIED)
        names = {old: new if new.startswith(heads) else family.PREFIX + new for old, new in names.items()}
    return {new: tensors[old] for old, new in names.items() if new not in family.BUFFERS}


def _untie(family: ModuleType, tensors: dict[str, np.ndarray], *, is_used: bool) -> dict[str, np.ndarray]:
    """Returns the tensors without the tied ones, which are compared with the weights that they are tied to.

    If a checkpoint has only the tied weight, it is returned under the name of the other one.

    Args:
        family: the module of the model's family.
        tensors: the tensors of the checkpoint.
        is_used: whether the head that is read has the tied weights; otherwise they are not compared.
    """
    untied = {name: x for name, x in tensors.items() if name not in family.TIED}
    for name in sorted(family.TIED.keys() & tensors.keys()):
        original = family.TIED[name]
        if is_used and not np.array_equal(tensors[name], untied.get(original, tensors[name])):
            if name.endswith(".bias"):
                raise ValueError(
                    f"the two output biases {name} and {original} differ, but a model has only one. Remove the one "
                    f"that the model was not trained with; Transformers uses {original}."
                )
            raise ValueError(
                f"{name} differs from {original}, but only models whose output layer is tied to the word embeddings "
                "are supported. Choose a model with tied weights."
            )
        untied.setdefault(original, tensors[name])
    return untied


def _raise_if_any(names: Iterable[str], problem: str, *, advice: str, noun: str = "tensor") -> None:
    """Raises a ValueError that lists `names`, unless it is empty.

    Args:
        names: the names of the tensors or parameters that have the problem.
        problem: the end of the sentence "3 tensors are …".
        advice: the sentence that says how to fix it.
        noun: what the names belong to.
    """
    names = sorted(names)
    if names:
        count = f"1 {noun} is" if len(names) == 1 else f"{len(names)} {noun}s are"
        raise ValueError(f"{count} {problem}: {', '.join(names[:5])}{', …' if len(names) > 5 else ''}. {advice}")
