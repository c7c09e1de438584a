"""Writes a model as a Hub folder that `transformers` can load, with the names and tensor layout of PyTorch."""

import json
import pathlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import safetensors
import safetensors.numpy

from distilbert_jax.data.tokenizer.tokenizer import SPECIAL_TOKENS, Tokenizer
from distilbert_jax.io import files
from distilbert_jax.io.folder_marker import check_may_write, write_marker
from distilbert_jax.models import convert
from distilbert_jax.models.transformer import HeadConfig, TransformerConfig


def save_pretrained(
    folder: pathlib.Path,
    *,
    family: ModuleType,
    config: TransformerConfig,
    params: dict[str, Any],
    tokenizer: Tokenizer,
    card: str,
    head: str = "masked_lm",
    head_config: HeadConfig = HeadConfig(),  # noqa: B008
    made_from: Mapping[str, Any] = {},
) -> None:
    """Writes model, tokenizer and model card to a folder. A folder that this function wrote earlier is replaced.

    The files are written to a temporary folder, which is renamed at the end, so `folder` is never incomplete.

    Args:
        folder: the folder to write.
        family: the module in models/families/.
        config: the config of the encoder.
        params: the parameters of encoder and head.
        tokenizer: the tokenizer of the model.
        card: the text of README.md.
        head: the name of the head, which is a file in heads/.
        head_config: the labels of the head and its problem type.
        made_from: what decided the weights, for the marker of the folder. The folder may be published, so this names
            no folders of this machine.

    Raises:
        ValueError: the folder has files that this function did not write.
        OSError: the disk is full, or cannot be written.
    """
    folder = files.expand_path(folder)
    partial = folder.with_name(folder.name + ".partial")
    for path in (folder, partial, files.replaced_folder(folder)):
        check_may_write(path, "export", setting=None)
    files.remove(partial)
    write_marker(partial, "export", made_from=made_from)
    tensors = convert.to_hub(family, config, params, head=head)
    try:
        safetensors.numpy.save_file(tensors, partial / "model.safetensors", metadata={"format": "pt"})
    except safetensors.SafetensorError as error:
        raise files.disk_error(error, partial / "model.safetensors") from error
    write_description(partial, family=family, config=config, tokenizer=tokenizer, head=head, head_config=head_config)
    (partial / "README.md").write_text(card, encoding="utf-8")
    files.replace_folder(partial, folder)


def write_description(
    folder: pathlib.Path,
    *,
    family: ModuleType,
    config: TransformerConfig,
    tokenizer: Tokenizer,
    head: str = "masked_lm",
    head_config: HeadConfig = HeadConfig(),  # noqa: B008
) -> None:
    """Writes the files of a Hub folder that do not depend on the weights: config.json and the tokenizer."""
    files.write_json(folder / "config.json", make_config(family, config, tokenizer, head=head, head_config=head_config))
    files.write_json(folder / "tokenizer_config.json", make_tokenizer_config(family, config, tokenizer))
    (folder / "tokenizer.json").write_text(tokenizer.backend.to_str(pretty=True), encoding="utf-8")
    vocabulary = sorted(tokenizer.backend.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1])
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word, _ in vocabulary), encoding="utf-8")


def make_config(
    family: ModuleType, config: TransformerConfig, tokenizer: Tokenizer, *, head: str, head_config: HeadConfig
) -> dict[str, Any]:
    """Returns the content of config.json."""
    return {
        "architectures": [family.ARCHITECTURES[head]],
        "model_type": family.MODEL_TYPE,
        **family.config_to_hub(config),
        **family.head_to_hub(head_config, head),
        "pad_token_id": tokenizer.pad_id,
        "tie_word_embeddings": True,
        "dtype": "float32",
    }


def make_tokenizer_config(family: ModuleType, config: TransformerConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    """Returns the content of tokenizer_config.json."""
    # A model without token types must not be given any: transformers 4 raises, and 5 ignores the problem.
    inputs = (
        ["input_ids", "token_type_ids", "attention_mask"] if config.num_token_types else ["input_ids", "attention_mask"]
    )
    normalizer = json.loads(tokenizer.backend.to_str()).get("normalizer") or {}
    settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    if normalizer.get("type") == "BertNormalizer":
        settings = {
            "tokenizer_class": family.TOKENIZER,
            "do_lower_case": normalizer["lowercase"],
            "strip_accents": normalizer["strip_accents"],
            "tokenize_chinese_chars": normalizer["handle_chinese_chars"],
        }
    special_tokens = {
        f"{role}_token": tokenizer.backend.id_to_token(getattr(tokenizer, f"{role}_id")) for role in SPECIAL_TOKENS
    }
    return settings | special_tokens | {"model_input_names": inputs, "model_max_length": config.max_positions}
