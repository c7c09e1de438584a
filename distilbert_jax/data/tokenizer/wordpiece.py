"""Builds BERT's tokenizer as Transformers does from the name of its class: from a vocabulary and three settings."""

import json
from collections.abc import Mapping
from typing import Any

import tokenizers

from distilbert_jax.data.tokenizer.settings import TokenizerSettings

WHITESPACE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
"""What the `tokenizers` library cuts from the end of a line of vocab.txt. Python's `rstrip` cuts more."""

MAX_WORD_CHARACTERS = 100
"""Longer words are unknown."""

_FIXED_PARTS: Mapping[str, Mapping[str, Any]] = {
    "model": {
        "type": "WordPiece",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": MAX_WORD_CHARACTERS,
    },
    "normalizer": {"type": "BertNormalizer", "clean_text": True},
    "pre_tokenizer": {"type": "BertPreTokenizer"},
}
"""The parts of tokenizer.json that are the same for every tokenizer of these classes."""


def parse_vocabulary(text: str) -> dict[str, int]:
    """Returns the id of each token in a vocab.txt: the number of its line, from 0.

    As in Transformers, whitespace at the end of a line is not part of a token, and a token that is listed twice has
    the id of its last line. Empty lines are no tokens.
    """
    lines = [line.rstrip(WHITESPACE) for line in text.split("\n")]
    return {token: token_id for token_id, token in enumerate(lines) if token}


def format_vocabulary(vocabulary: Mapping[str, int]) -> str:
    """Returns the vocab.txt of a vocabulary, in the order of the ids."""
    return "".join(f"{token}\n" for token in sorted(vocabulary, key=vocabulary.__getitem__))


def build_tokenizer(vocabulary: dict[str, int], settings: TokenizerSettings) -> tokenizers.Tokenizer:
    """Builds the tokenizer of a vocabulary; `settings.do_lower_case` must be stated.

    The special tokens are not added yet.
    """
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(
            vocabulary, unk_token=settings.token("unk"), max_input_chars_per_word=MAX_WORD_CHARACTERS
        )
    )
    backend.normalizer = tokenizers.normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.tokenize_chinese_chars is not False,
        strip_accents=settings.strip_accents,
        lowercase=bool(settings.do_lower_case),
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.decoder = tokenizers.decoders.WordPiece(prefix="##")
    return backend


def check_settings(backend: tokenizers.Tokenizer, settings: TokenizerSettings, *, where: str) -> None:
    """Checks that a tokenizer.json is the tokenizer that the settings describe.

    Transformers does not read the settings from tokenizer.json if the class is BERT's, but builds the tokenizer from
    its vocabulary. For a general class, only settings that are stated are compared.

    Args:
        backend: the tokenizer of the tokenizer.json.
        settings: the settings in the other files.
        where: the path of the tokenizer.json, for error messages.

    Raises:
        ValueError: they contradict each other.
    """
    content = json.loads(backend.to_str())
    for part, fields in _FIXED_PARTS.items() if settings.is_bert_class else ():
        for name, expected in fields.items():
            value = (content[part] or {}).get(name)
            if value != expected:
                raise ValueError(
                    f"{where}: {part}.{name} is {json.dumps(value)}, but a "
                    f"{settings.tokenizer_class or 'BertTokenizer'} always has {json.dumps(expected)}. If "
                    "tokenizer.json is right, set tokenizer_class to "
                    f"PreTrainedTokenizerFast in {settings.path}."
                )
    for name, stated, actual in _compare_normalization(backend, settings):
        if stated != actual:
            origin = f"{settings.path} says that {name} is {json.dumps(stated)}"
            if getattr(settings, name) is None:
                origin = f"{settings.path} does not state {name}, which means {json.dumps(stated)}"
            raise ValueError(
                f"{origin}, but in {where} it is {json.dumps(actual)}. Set {name} in tokenizer_config.json to the "
                "value that the model was trained with, and correct tokenizer.json if it is another one."
            )
    expected_unk, actual_unk = settings.token("unk"), content["model"].get("unk_token")
    if actual_unk is not None and actual_unk != expected_unk:
        raise ValueError(
            f"{where}: unknown words become {actual_unk!r}, but the unk_token is {expected_unk!r}; name the right one "
            f"as unk_token in {settings.path}"
        )


def _compare_normalization(backend: tokenizers.Tokenizer, settings: TokenizerSettings) -> list[tuple[str, bool, bool]]:
    """Returns (name, stated value, value in tokenizer.json) of the settings that are stated or have a default."""

    def normalize(text: str) -> str:
        return backend.normalizer.normalize_str(text) if backend.normalizer else text

    without_accent = normalize("é")
    actual = {
        "do_lower_case": "a" in normalize("A"),
        "strip_accents": "e" in without_accent and "\u0301" not in without_accent,
        "tokenize_chinese_chars": " 東 " in normalize("東"),
    }
    stated = {name: getattr(settings, name) for name in actual}
    if settings.is_bert_class:
        stated["do_lower_case"] = stated["do_lower_case"] is not False
        stated["tokenize_chinese_chars"] = stated["tokenize_chinese_chars"] is not False
        if stated["strip_accents"] is None:
            stated["strip_accents"] = stated["do_lower_case"]
    return [(name, stated[name], actual[name]) for name in actual if stated[name] is not None]
