"""Writes a model as a Hub folder that `transformers` can load, with the names and tensor layout of PyTorch."""

import hashlib
import json
import pathlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import safetensors
import safetensors.numpy

from distilbert_jax.data.tokenizer.settings import SPECIAL_TOKENS
from distilbert_jax.data.tokenizer.tokenizer import Tokenizer, load_tokenizer
from distilbert_jax.data.tokenizer.wordpiece import format_vocabulary
from distilbert_jax.io import files
from distilbert_jax.io.folder_marker import MARKER_FILE, check_owner, read_marker, write_marker
from distilbert_jax.models import convert
from distilbert_jax.models.transformer import HeadConfig, TransformerConfig

CARD_HASH = "card_sha256"
"""The hash of the model card as it was written, in the marker of the folder: the user may edit the card later."""


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

    One that holds the same model already stays as it is, with everything that the user has changed in it.

    The files are written to a temporary folder, which is renamed at the end, so `folder` is never incomplete. Before
    that, its tokenizer is loaded again and compared with `tokenizer`.

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
        ValueError: the folder has files that this function did not write, or the tokenizer gives other ids after it
            was written.
        OSError: the disk is full, or cannot be written.
    """
    folder = files.expand_path(folder)
    partial = folder.with_name(folder.name + ".partial")
    for path in (folder, partial, files.replaced_folder(folder)):
        check_owner(path, "export", setting=None)
    files.remove(partial)
    write_marker(partial, "export", made_from={**made_from, CARD_HASH: hashlib.sha256(card.encode()).hexdigest()})
    tensors = convert.to_hub(family, config, params, head=head)
    with files.write_atomically(partial / "model.safetensors") as path:
        try:
            safetensors.numpy.save_file(tensors, path, metadata={"format": "pt"})
        except safetensors.SafetensorError as error:
            raise files.disk_error(error, partial / "model.safetensors") from error
    write_description(partial, family=family, config=config, tokenizer=tokenizer, head=head, head_config=head_config)
    (partial / "README.md").write_text(card, encoding="utf-8")
    if _holds_same_model(folder, partial):
        if not _has_edited_card(folder):
            for name in ("README.md", MARKER_FILE):
                (partial / name).replace(folder / name)
        files.remove(partial)
        return
    if strangers := _list_names(folder) - _list_names(partial):
        files.remove(partial)
        raise ValueError(
            f"{folder} would be replaced, but it has {', '.join(sorted(strangers))}, which this program did not write. "
            "Move it to another folder, then run the same command again"
        )
    files.replace_folder(partial, folder)


def _has_edited_card(folder: pathlib.Path) -> bool:
    """Returns whether the user has changed the card of a model since it was written."""
    marker, card = read_marker(folder), folder / "README.md"
    return marker is None or not card.is_file() or files.sha256(card) != marker["made_from"].get(CARD_HASH)


def _list_names(folder: pathlib.Path) -> set[str]:
    """Returns the names of the files and folders in a folder; none if it does not exist."""
    return {path.name for path in folder.iterdir()} - {files.LOCK} if folder.is_dir() else set()


def _holds_same_model(folder: pathlib.Path, new: pathlib.Path) -> bool:
    """Returns whether `folder` has all files of the folder `new`, except its card and its marker, with equal bytes."""
    names = _list_names(new) - {"README.md", MARKER_FILE}
    return all((folder / name).is_file() and files.sha256(folder / name) == files.sha256(new / name) for name in names)


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
    _write_tokenizer(folder, family, config, tokenizer)


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


def _write_tokenizer(folder: pathlib.Path, family: ModuleType, config: TransformerConfig, tokenizer: Tokenizer) -> None:
    """Writes the files of a tokenizer, loads them again and compares them with it.

    The family's class builds its tokenizer from the vocabulary and some settings. Where that is another tokenizer, the
    general class is written, which takes tokenizer.json as it is.
    """
    normalizer = json.loads(tokenizer.backend.to_str())["normalizer"] or {}
    is_general = normalizer.get("type") != "BertNormalizer"
    if not is_general:
        settings = make_tokenizer_config(config, tokenizer) | {
            "tokenizer_class": family.TOKENIZER,
            "do_lower_case": normalizer["lowercase"],
            "strip_accents": normalizer["strip_accents"],
            "tokenize_chinese_chars": normalizer["handle_chinese_chars"],
        }
        files.write_json(folder / "tokenizer_config.json", settings)
        vocabulary = format_vocabulary(tokenizer.backend.get_vocab(with_added_tokens=True))
        (folder / "vocab.txt").write_text(vocabulary, encoding="utf-8")
        try:
            is_general = tokenizer.find_difference(load_tokenizer(folder)) is not None
        except ValueError:
            is_general = True
    if is_general:
        (folder / "vocab.txt").unlink(missing_ok=True)
        settings = make_tokenizer_config(config, tokenizer) | {"tokenizer_class": "PreTrainedTokenizerFast"}
        files.write_json(folder / "tokenizer_config.json", settings)
    (folder / "tokenizer.json").write_text(tokenizer.backend.to_str(pretty=True), encoding="utf-8")
    if difference := tokenizer.find_difference(load_tokenizer(folder)):
        raise ValueError(
            f"{folder}: the exported tokenizer gives other ids than the one of the training: {difference}. The export "
            "was not finished; use the tokenizer files of the model that the student started from."
        )


def make_tokenizer_config(config: TransformerConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    """Returns the part of tokenizer_config.json that is the same for all classes."""
    # A model without token types must not be given any: transformers 4 raises, and 5 ignores the problem.
    inputs = (
        ["input_ids", "token_type_ids", "attention_mask"] if config.num_token_types else ["input_ids", "attention_mask"]
    )
    special_tokens = {
        f"{role}_token": tokenizer.backend.id_to_token(getattr(tokenizer, f"{role}_id")) for role in SPECIAL_TOKENS
    }
    return special_tokens | {"model_input_names": inputs, "model_max_length": config.max_positions}
