"""Reads the settings of a tokenizer: its class, its special and added tokens, and how it normalizes text.

They are in tokenizer_config.json, in the older special_tokens_map.json and added_tokens.json, and in part in
config.json. Files that contradict each other are refused, because it is not known which of them a model was trained
with.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, TypedDict

import tokenizers

from distilbert_jax.io import untrusted

SPECIAL_TOKENS = {"cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "mask": "[MASK]", "unk": "[UNK]"}
"""The special tokens by their role, as BERT writes them."""

BERT_CLASSES = ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MobileBertTokenizer")
"""Classes in Transformers that build BERT's tokenizer from a vocabulary and three settings.

Each of them has a second name that ends with "Fast".
"""

GENERAL_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""Classes in Transformers that take tokenizer.json as it is; the second is the name since version 5."""

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
)
"""The files that a tokenizer is read from."""

_TOKEN_KEYS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""The special tokens that Transformers knows, in the order in which it adds them to a vocabulary without them."""

_JAPANESE_KEYS = ("word_tokenizer_type", "subword_tokenizer_type")
_JAPANESE_CLASS = "BertJapaneseTokenizer"

_CONTRADICTION = (
    "it is not known which of them the model was trained with: correct one of them, or remove it from its file"
)


class _StoredContent(TypedDict):
    """The field that every token has where it is written as an object."""

    content: str


class StoredToken(_StoredContent, total=False):
    """A token where a file writes it as an object."""

    single_word: bool
    lstrip: bool
    rstrip: bool
    normalized: bool
    special: bool


class StoredSettings(TypedDict, total=False):
    """The part of a tokenizer_config.json that is used, apart from the special tokens."""

    tokenizer_class: str | None
    do_lower_case: bool
    strip_accents: bool | None
    tokenize_chinese_chars: bool | None
    do_basic_tokenize: bool | None
    split_special_tokens: bool | None
    added_tokens_decoder: dict[str, StoredToken]


class StoredModelConfig(TypedDict, total=False):
    """The part of a config.json that says which tokenizer a model has."""

    tokenizer_class: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenizerSettings:
    """The settings of a tokenizer.

    Attributes:
        path: the tokenizer_config.json, for error messages. It need not exist.
        tokenizer_class: the class in Transformers, or None if no file states one, which means BERT's.
        do_lower_case: whether text is lower-cased, or None if it is not stated.
        strip_accents: whether accents are removed, or None for the same as `do_lower_case`.
        tokenize_chinese_chars: whether each ideograph is a word, or None if it is not stated, which means that it is.
        special_tokens: the special tokens that the files state, by keys such as "cls_token".
        extra_special_tokens: further special tokens, in the order in which they are added.
        added_tokens: the added tokens that the files state, by id. Those in tokenizer.json are not among them.
    """

    path: pathlib.Path
    tokenizer_class: str | None
    do_lower_case: bool | None
    strip_accents: bool | None
    tokenize_chinese_chars: bool | None
    special_tokens: Mapping[str, tokenizers.AddedToken]
    extra_special_tokens: tuple[tokenizers.AddedToken, ...]
    added_tokens: Mapping[int, tokenizers.AddedToken]

    @property
    def is_bert_class(self) -> bool:
        """Returns whether the class builds BERT's tokenizer from a vocabulary."""
        return self.tokenizer_class not in GENERAL_CLASSES

    def token(self, role: str) -> str:
        """Returns the special token of a role of `SPECIAL_TOKENS`."""
        stated = self.special_tokens.get(f"{role}_token")
        return SPECIAL_TOKENS[role] if stated is None else stated.content


def read_settings(folder: pathlib.Path) -> TokenizerSettings:
    """Reads the settings of the tokenizer in a model folder.

    Raises:
        ValueError: a file is damaged, two files contradict each other, or the class of the tokenizer is not supported.
    """
    path = folder / "tokenizer_config.json"
    stored: dict[str, Any] = untrusted.read_json(path, dict[str, Any]) if path.is_file() else {}
    untrusted.check_shape(stored, StoredSettings, where=str(path))
    tokenizer_class = _read_class(folder, stored)
    if stored.get("do_basic_tokenize") is False:
        raise ValueError(f"{path}: do_basic_tokenize is false, which is not supported; choose another model")
    if stored.get("split_special_tokens"):
        raise ValueError(f"{path}: split_special_tokens is true, which is not supported; choose another model")
    special_tokens, extra_special_tokens = _read_special_tokens(folder, stored)
    return TokenizerSettings(
        path=path,
        tokenizer_class=tokenizer_class,
        do_lower_case=stored.get("do_lower_case"),
        strip_accents=stored.get("strip_accents"),
        tokenize_chinese_chars=stored.get("tokenize_chinese_chars"),
        special_tokens=special_tokens,
        extra_special_tokens=extra_special_tokens,
        added_tokens=_read_added_tokens(
            folder, stored, {token.content for token in (*special_tokens.values(), *extra_special_tokens)}
        ),
    )


def _read_class(folder: pathlib.Path, stored: Mapping[str, Any]) -> str | None:
    """Returns the tokenizer's class in Transformers. Raises ValueError if it is not supported."""
    path, config_path = folder / "tokenizer_config.json", folder / "config.json"
    config: dict[str, Any] = untrusted.read_json(config_path, dict[str, Any]) if config_path.is_file() else {}
    untrusted.check_shape(config, StoredModelConfig, where=str(config_path))
    for where, content in ((path, stored), (config_path, config)):
        auto_map = content.get("auto_map")
        # Older files state a list, which always means the tokenizer.
        code = auto_map.get("AutoTokenizer") if isinstance(auto_map, dict) else auto_map
        if code:
            raise ValueError(
                f"{where}: auto_map says that the tokenizer is {code!r}, which is code in the folder. Code in a model "
                "folder is never executed, so the ids of this tokenizer cannot be reproduced: choose another model"
            )
    name, where = stored.get("tokenizer_class"), path
    if name is None and config.get("tokenizer_class") is not None:
        name, where = config["tokenizer_class"], config_path
    if name is None and any(stored.get(key) is not None for key in _JAPANESE_KEYS):
        name = _JAPANESE_CLASS
    supported = (*BERT_CLASSES, *GENERAL_CLASSES)
    if name is not None and name not in supported and name.removesuffix("Fast") not in BERT_CLASSES:
        raise ValueError(
            f"{where}: the tokenizer is a {name}, whose ids cannot be reproduced exactly. Choose a model whose "
            f"tokenizer_class is one of {', '.join(supported)}. If the folder has a tokenizer.json that gives the "
            "same ids, set tokenizer_class to PreTrainedTokenizerFast."
        )
    return name


def _read_special_tokens(
    folder: pathlib.Path, stored: Mapping[str, Any]
) -> tuple[dict[str, tokenizers.AddedToken], tuple[tokenizers.AddedToken, ...]]:
    """Returns the special tokens by key, and further ones, from tokenizer_config.json and special_tokens_map.json."""
    named: dict[str, tokenizers.AddedToken] = {}
    extra: list[tokenizers.AddedToken] = []
    path, older_path = folder / "tokenizer_config.json", folder / "special_tokens_map.json"
    older: dict[str, Any] = untrusted.read_json(older_path, dict[str, Any]) if older_path.is_file() else {}
    for where, content in ((path, stored), (older_path, older)):
        keys = [key for key in content if key.endswith("_token") and isinstance(content[key], str)]
        for key in dict.fromkeys((*_TOKEN_KEYS, *keys)):
            token = _parse_token(content.get(key), f"{where}: {key}")
            if token is None:
                continue
            if key in named and named[key].content != token.content:
                raise ValueError(
                    f"{path} says that {key} is {named[key].content!r}, but {older_path} says {token.content!r}; "
                    f"{_CONTRADICTION}"
                )
            named[key] = token
        for key in ("additional_special_tokens", "extra_special_tokens"):
            listed = content.get(key) or []
            if not isinstance(listed, list | dict):
                raise ValueError(f"{where}: {key} is not a list of tokens")
            values = listed.values() if isinstance(listed, dict) else listed
            extra += filter(None, (_parse_token(value, f"{where}: {key}") for value in values))
    return named, tuple({token.content: token for token in extra}.values())


def _read_added_tokens(
    folder: pathlib.Path, stored: Mapping[str, Any], special: set[str]
) -> dict[int, tokenizers.AddedToken]:
    """Returns the added tokens by id, from tokenizer_config.json and added_tokens.json."""
    path, older_path = folder / "tokenizer_config.json", folder / "added_tokens.json"
    added = {}
    for key, value in stored.get("added_tokens_decoder", {}).items():
        if not key.isdecimal():
            raise ValueError(f"{path}: added_tokens_decoder has the id {key!r}, which is not a whole number")
        added[int(key)] = _make_token(value)
    older: dict[str, int] = untrusted.read_json(older_path, dict[str, int]) if older_path.is_file() else {}
    for content, token_id in older.items():
        same_id = [token.content for other_id, token in added.items() if other_id == token_id]
        same_content = [other_id for other_id, token in added.items() if token.content == content]
        if same_id not in ([], [content]) or same_content not in ([], [token_id]):
            raise ValueError(
                f"{older_path} gives {content!r} the id {token_id}, but another added token has this id, or this "
                f"token another id, in {older_path} or {path}; {_CONTRADICTION}"
            )
        is_special = content in special
        if not same_id:
            added[token_id] = tokenizers.AddedToken(content, normalized=not is_special, special=is_special)
    return added


def _parse_token(value: Any, where: str) -> tokenizers.AddedToken | None:
    """Returns a special token that a file writes as text or as an object, or None for null."""
    untrusted.check_shape(value, str | StoredToken | None, where=where)
    if value is None:
        return None
    if isinstance(value, str):
        return tokenizers.AddedToken(value, normalized=False, special=True)
    return _make_token({**value, "special": True})


def _make_token(stored: Mapping[str, Any]) -> tokenizers.AddedToken:
    """Returns the token that an object in a file describes."""
    flags = {name: stored[name] for name in StoredToken.__optional_keys__ if name in stored}
    return tokenizers.AddedToken(stored["content"], **flags)
