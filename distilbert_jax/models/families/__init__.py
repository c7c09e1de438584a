"""The families of encoders: how each names its weights on the Hub, and what its config.json says.

The module of a family defines:

    MODEL_TYPE           the `model_type` in config.json
    ARCHITECTURES        the class in Transformers for each head, for `architectures` in config.json
    TOKENIZER            the class of the tokenizer in Transformers
    PREFIX               the prefix of the encoder's tensors
    ENCODER              the table of the encoder's tensors: {name on the Hub: (our name, layout)}, where {i} is the
                         number of a layer and the layout is a key of `convert.TENSOR_LAYOUTS`
    HEADS                a table of the same kind for each head
    TIED                 for each tied tensor, the name of the one that it must equal
    OTHER_HEADS          prefixes of tensors of heads, which may be in a checkpoint without being read
    BUFFERS              tensors that are not parameters
    BASE                 the config of the base model
    config_from_hub      reads the config of the encoder from a config.json
    config_to_hub        the inverse of it
    head_from_hub        reads the settings of a head from a config.json
    head_to_hub          the inverse of it
    student_config       makes the config of a student of this family
"""

import importlib
from types import ModuleType
from typing import Any

FAMILIES = ("bert", "distilbert")
"""The `model_type` of every family; its module in this folder has the same name."""


def get_family(name: Any, *, field: str = "family") -> ModuleType:
    """Returns the module of a family.

    Args:
        name: the family's `model_type`. A config.json may state anything here, text or not.
        field: what the name was read from, for the error.

    Raises:
        ValueError: the family is not supported.
    """
    if name not in FAMILIES:
        raise ValueError(f"{field} {name!r} is not supported. Use one of {', '.join(FAMILIES)}.")
    return importlib.import_module(f"distilbert_jax.models.families.{name}")
