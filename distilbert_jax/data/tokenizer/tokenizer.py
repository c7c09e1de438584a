"""Loads the tokenizer of a model folder: `tokenizer.json`, or `vocab.txt` with the settings that belong to it."""

import contextlib
import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

import numpy as np
import tokenizers

from distilbert_jax.data.tokenizer.json_checks import check_tokenizer_json
from distilbert_jax.io import untrusted

SPECIAL_TOKENS = {"cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "mask": "[MASK]", "unk": "[UNK]"}
"""The special tokens by their role, as BERT writes them."""

PROBE_TEXT = "A cat, naïve; 東京 12\tﬁ"
"""A text that every tokenizer must be able to encode. It has accents, ideographs, digits, a tab and a ligature."""


class AddedToken(TypedDict):
    """A special token where tokenizer_config.json writes it as an object."""

    content: str


class TokenizerSettings(TypedDict, total=False):
    """The part of a tokenizer_config.json that is used."""

    do_lower_case: bool
    strip_accents: bool | None
    tokenize_chinese_chars: bool | None
    cls_token: str | AddedToken
    sep_token: str | AddedToken
    pad_token: str | AddedToken
    mask_token: str | AddedToken
    unk_token: str | AddedToken


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """A `tokenizers.Tokenizer` that neither truncates nor pads, and the ids of its special tokens."""

    backend: tokenizers.Tokenizer
    cls_id: int
    sep_id: int
    pad_id: int
    mask_id: int
    unk_id: int

    @property
    def vocab_size(self) -> int:
        """Returns the number of tokens, added ones included."""
        return self.backend.get_vocab_size(with_added_tokens=True)

    def encode(self, texts: Sequence[Any], *, offsets: bool = False, words: bool = False) -> list[tokenizers.Encoding]:
        """Encodes texts without [CLS] and [SEP].

        Args:
            texts: strings, or lists of words with `words`.
            offsets: also return the characters of each token, which takes more time.
            words: the texts are split into words already.

        Raises:
            ValueError: If the tokenizer fails on a text.
        """
        encode = self.backend.encode_batch if offsets else self.backend.encode_batch_fast
        with _library_errors_as_value_errors("the tokenizer cannot read a text"):
            return encode(list(texts), is_pretokenized=words, add_special_tokens=False)

    @property
    def special_ids(self) -> tuple[int, ...]:
        """Returns the sorted ids of the special tokens, which are never masked."""
        return tuple(sorted({self.cls_id, self.sep_id, self.pad_id, self.mask_id, self.unk_id}))

    @property
    def dtype(self) -> type[np.unsignedinteger]:
        """Returns the smallest type that holds every id: two bytes for up to 65,536 tokens, otherwise four."""
        return np.uint16 if self.vocab_size <= 2**16 else np.uint32

    @functools.cached_property
    def sha256(self) -> str:
        """Returns the SHA-256 of the tokenizer as JSON. It does not depend on the files that the tokenizer is in."""
        return hashlib.sha256(self.backend.to_str().encode()).hexdigest()

    def check_vocab_size(self, vocab_size: int, where: str) -> None:
        """Checks that a model's vocabulary is this tokenizer's.

        Args:
            vocab_size: rows of the model's embedding. Up to 127 rows of padding after the last token are allowed.
            where: the model, for error messages.

        Raises:
            ValueError: If the sizes do not match.
        """
        if not self.vocab_size <= vocab_size < self.vocab_size + 128:
            raise ValueError(
                f"{where}: the tokenizer has {self.vocab_size} tokens, but the model has {vocab_size}: one of them "
                "belongs to another model; use the tokenizer from the model's own folder"
            )


def load_tokenizer(folder: pathlib.Path) -> Tokenizer:
    """Loads the tokenizer of a model folder.

    Raises:
        ValueError: If the folder has none, it is broken, it lacks a special token, or it does not state whether text is
            lower-cased.
    """
    settings_path = folder / "tokenizer_config.json"
    settings: dict[str, Any] = untrusted.read_json(settings_path, TokenizerSettings) if settings_path.is_file() else {}
    if (folder / "tokenizer.json").is_file():
        content = untrusted.read_text(folder / "tokenizer.json", max_bytes=untrusted.MAX_JSON_BYTES)
        backend = parse_tokenizer(content, where=str(folder / "tokenizer.json"))
    elif (folder / "vocab.txt").is_file():
        backend = _from_vocabulary(folder, settings)
    else:
        raise ValueError(
            f"{folder}: no tokenizer: the folder has neither tokenizer.json nor vocab.txt; copy the tokenizer files of "
            "the model there"
        )
    ids = {}
    for role, default_token in SPECIAL_TOKENS.items():
        stated = settings.get(f"{role}_token", default_token)
        token = stated["content"] if isinstance(stated, dict) else stated
        if (token_id := backend.token_to_id(token)) is None:
            raise ValueError(
                f"{folder}: the tokenizer has no {token!r}; name its {role} token as {role}_token in "
                "tokenizer_config.json"
            )
        ids[f"{role}_id"] = token_id
    # An id beyond the number of tokens would be an index outside the embedding.
    highest = max(backend.get_vocab(with_added_tokens=True).values())
    if highest >= (size := backend.get_vocab_size(with_added_tokens=True)):
        raise ValueError(
            f"{folder}: the tokenizer has {size:,} tokens, but its highest id is {highest:,}; ids must run from 0 "
            "without gaps"
        )
    return Tokenizer(backend=backend, **ids)


def parse_tokenizer(text: str, *, where: str) -> tokenizers.Tokenizer:
    """Makes a tokenizer from its JSON, with truncation and padding switched off.

    Args:
        text: the content of a tokenizer.json.
        where: its path, for error messages.

    Raises:
        ValueError: If it is not a tokenizer, or if encoding a text with it could take very long.
    """
    check_tokenizer_json(text, where=where)
    with _library_errors_as_value_errors(f"{where}: not a tokenizer that can be read"):
        backend = tokenizers.Tokenizer.from_str(text)
        backend.no_truncation()
        backend.no_padding()
        # The library looks at some tables only when it encodes a text.
        backend.encode_batch([PROBE_TEXT])
    return backend


@contextlib.contextmanager
def _library_errors_as_value_errors(message: str) -> Iterator[None]:
    """Raises what the library raises as a ValueError that begins with `message`.

    The library raises plain Exceptions, and a PanicException that is not even a subclass of Exception.
    """
    try:
        yield
    except BaseException as error:
        if type(error) is Exception or type(error).__name__ == "PanicException":
            raise ValueError(f"{message}: {error}") from None
        raise


def _from_vocabulary(folder: pathlib.Path, settings: dict[str, Any]) -> tokenizers.Tokenizer:
    """Builds BERT's WordPiece tokenizer from a folder's vocab.txt and the settings in its tokenizer_config.json."""
    if "do_lower_case" not in settings:
        raise ValueError(
            f"{folder}: vocab.txt alone does not say whether text is lower-cased; add tokenizer_config.json with "
            '{"do_lower_case": true} for an uncased model, false for a cased one'
        )
    path = folder / "vocab.txt"
    tokens = untrusted.read_text(path, max_bytes=untrusted.MAX_JSON_BYTES).rstrip("\n").split("\n")
    vocabulary = {token: i for i, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise ValueError(
            f"{path}: {len(tokens) - len(vocabulary)} lines repeat an earlier token; each token must be listed once"
        )
    if missing := [token for token in (SPECIAL_TOKENS["cls"], SPECIAL_TOKENS["sep"]) if token not in vocabulary]:
        raise ValueError(f"{path}: {missing[0]} is missing, so this is not the vocabulary of a BERT")
    built = tokenizers.BertWordPieceTokenizer(
        vocab=vocabulary,
        lowercase=settings["do_lower_case"],
        strip_accents=settings.get("strip_accents"),
        handle_chinese_chars=settings.get("tokenize_chinese_chars") is not False,
    )
    return parse_tokenizer(built.to_str(), where=str(path))
