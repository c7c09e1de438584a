"""Loads the tokenizer of a model folder: `tokenizer.json`, or `vocab.txt` with the settings that belong to it."""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tokenizers

from distilbert_jax.data.tokenizer import identity, wordpiece
from distilbert_jax.data.tokenizer.json_checks import check_tokenizer_json
from distilbert_jax.data.tokenizer.settings import SPECIAL_TOKENS, TokenizerSettings, read_settings
from distilbert_jax.io import untrusted

MAX_UNUSED_SHARE = 0.5
"""Largest share of the ids below the highest one that may belong to no token. A table with a row for each id must fit
into memory."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """A `tokenizers.Tokenizer` that neither truncates nor pads, and the ids of its special tokens."""

    backend: tokenizers.Tokenizer
    cls_id: int
    sep_id: int
    pad_id: int
    mask_id: int
    unk_id: int

    @functools.cached_property
    def vocab_size(self) -> int:
        """Returns the number of ids, added tokens included. An id that no token has counts, too."""
        return max(self.backend.get_vocab(with_added_tokens=True).values()) + 1

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
        """Returns a hash of everything that decides the ids. It does not depend on how the tokenizer was saved."""
        return identity.hash_description(self.describe())

    def describe(self) -> dict[str, Any]:
        """Returns everything that decides the ids, in one form for equal tokenizers."""
        return identity.describe(self.backend, {role: getattr(self, f"{role}_id") for role in SPECIAL_TOKENS})

    def find_difference(self, other: "Tokenizer") -> str | None:
        """Returns a text that names the first difference from another tokenizer, or None if both give the same ids.

        Descriptions are compared, and then the ids of `identity.PROBE_TEXTS` and of the special and added tokens.
        """
        if difference := identity.find_difference(self.describe(), other.describe()):
            return difference
        added = [token.content for token in self.backend.get_added_tokens_decoder().values()]
        for text in (*identity.PROBE_TEXTS, *(f"the {token}cat {token.lower()}" for token in added)):
            ids = [tokenizer.backend.encode(text).ids for tokenizer in (self, other)]
            if ids[0] != ids[1]:
                return f"the text {text!r} has the ids {ids[0][:20]} in one of them and {ids[1][:20]} in the other"
        return None

    def check_vocab_size(self, vocab_size: int, where: str) -> None:
        """Checks that a model's vocabulary has a row for every id of this tokenizer.

        Args:
            vocab_size: rows of the model's embedding. There may be more rows than ids.
            where: the model, for error messages.

        Raises:
            ValueError: If there are too few rows.
        """
        if self.vocab_size > vocab_size:
            token = self.backend.id_to_token(self.vocab_size - 1)
            raise ValueError(
                f"{where}: the model's embedding has only {vocab_size} rows, but the tokenizer has {self.vocab_size} "
                f"ids; the last one is that of {token!r}. Use the tokenizer from the model's own folder."
            )


def load_tokenizer(folder: pathlib.Path) -> Tokenizer:
    """Loads the tokenizer of a model folder.

    Raises:
        ValueError: If the folder has none, it is broken, its files contradict each other, its class is not supported,
            it lacks a special token, or it does not state whether text is lower-cased.
    """
    settings = read_settings(folder)
    json_path, vocabulary_path = folder / "tokenizer.json", folder / "vocab.txt"
    if json_path.is_file():
        content = untrusted.read_text(json_path, max_bytes=untrusted.MAX_JSON_BYTES)
        backend = parse_tokenizer(content, where=str(json_path))
        wordpiece.check_settings(backend, settings, where=str(json_path))
    elif vocabulary_path.is_file():
        backend = _from_vocabulary(vocabulary_path, settings)
    else:
        raise ValueError(
            f"{folder}: no tokenizer: the folder has neither tokenizer.json nor vocab.txt; copy the tokenizer files of "
            "the model there"
        )
    return complete_tokenizer(backend, settings, where=str(folder))


def complete_tokenizer(backend: tokenizers.Tokenizer, settings: TokenizerSettings, *, where: str) -> Tokenizer:
    """Returns a tokenizer with the added tokens of its settings, which puts [CLS] and [SEP] where BERT has them.

    Args:
        backend: the tokenizer; it is changed.
        settings: its settings.
        where: its folder, for error messages.

    Raises:
        ValueError: If a special token is missing, or an id does not fit.
    """
    with _library_errors_as_value_errors(f"{where}: a token cannot be added"):
        for token_id, token in sorted(settings.added_tokens.items()):
            _add_token(backend, token, where, stated_id=token_id)
        ids: dict[str, int] = {}
        for role in SPECIAL_TOKENS:
            role_id = backend.token_to_id(settings.token(role))
            if role_id is None:
                raise _missing_token(settings, role, where)
            ids[role] = role_id
        # Transformers adds every special token, so that its text in a document becomes this one token.
        defaults = {
            f"{role}_token": tokenizers.AddedToken(token, normalized=False, special=True)
            for role, token in SPECIAL_TOKENS.items()
        }
        for token in (*(defaults | dict(settings.special_tokens)).values(), *settings.extra_special_tokens):
            if token.content not in _added_tokens(backend):
                _add_token(backend, token, where)
    highest = max(backend.get_vocab(with_added_tokens=True).values())
    size = backend.get_vocab_size(with_added_tokens=True)
    if size < MAX_UNUSED_SHARE * highest:
        raise ValueError(
            f"{where}: the tokenizer has {size:,} tokens, but its highest id is {highest:,}; number the tokens from 0 "
            "without gaps"
        )
    cls, sep = settings.token("cls"), settings.token("sep")
    backend.post_processor = tokenizers.processors.BertProcessing((sep, ids["sep"]), (cls, ids["cls"]))
    return Tokenizer(backend=backend, **{f"{role}_id": token_id for role, token_id in ids.items()})


def _missing_token(settings: TokenizerSettings, role: str, where: str) -> ValueError:
    """Returns the error of a vocabulary without the special token of a role."""
    return ValueError(
        f"{where}: the tokenizer has no {settings.token(role)!r}; name its {role} token as {role}_token in "
        "tokenizer_config.json"
    )


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
        backend.encode_batch(identity.PROBE_TEXTS)
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


def _from_vocabulary(path: pathlib.Path, settings: TokenizerSettings) -> tokenizers.Tokenizer:
    """Builds BERT's tokenizer from a vocab.txt and its settings."""
    if not settings.is_bert_class:
        raise ValueError(
            f"{settings.path}: a {settings.tokenizer_class} is read from tokenizer.json, but the folder has only "
            "vocab.txt; add tokenizer.json, or set tokenizer_class to BertTokenizer if it is BERT's"
        )
    if settings.do_lower_case is None:
        raise ValueError(
            f"{path.parent}: vocab.txt alone does not say whether text is lower-cased; add tokenizer_config.json with "
            '{"do_lower_case": true} for an uncased model, false for a cased one'
        )
    vocabulary = wordpiece.parse_vocabulary(untrusted.read_text(path, max_bytes=untrusted.MAX_JSON_BYTES))
    if not vocabulary:
        raise ValueError(f"{path} is empty; copy the vocabulary of the model there")
    if settings.token("unk") not in vocabulary:
        raise _missing_token(settings, "unk", str(path))
    return parse_tokenizer(wordpiece.build_tokenizer(vocabulary, settings).to_str(), where=str(path))


def _add_token(
    backend: tokenizers.Tokenizer, token: tokenizers.AddedToken, where: str, *, stated_id: int | None = None
) -> None:
    """Adds a token, unless it is added already.

    Raises:
        ValueError: If it gets another id than its file states, or one that another token has, or if it is added already
            in another way.
    """
    existing = _added_tokens(backend).get(token.content)
    if existing and _format_flags(existing) != _format_flags(token):
        raise ValueError(
            f"{where}: the added token {token.content!r} has {_format_flags(token)} in tokenizer_config.json, but "
            f"{_format_flags(existing)} in tokenizer.json; correct one of them"
        )
    is_new = backend.token_to_id(token.content) is None
    if not existing:
        backend.add_tokens([token])
    token_id = backend.token_to_id(token.content)
    if stated_id is not None and token_id != stated_id:
        raise ValueError(
            f"{where}: the added token {token.content!r} should have the id {stated_id}, but gets {token_id}: added "
            "tokens follow the vocabulary without gaps. Correct its id, or list each token of the vocabulary once."
        )
    if is_new and token_id is not None and (other := backend.model.id_to_token(token_id)) is not None:
        raise ValueError(
            f"{where}: the added token {token.content!r} gets the id {token_id}, which {other!r} has already, because "
            "ids are missing in the vocabulary, or a token is listed twice; number its tokens from 0 without gaps"
        )


def _added_tokens(backend: tokenizers.Tokenizer) -> dict[str, tokenizers.AddedToken]:
    """Returns the added tokens of a tokenizer by their content."""
    return {token.content: token for token in backend.get_added_tokens_decoder().values()}


def _format_flags(token: tokenizers.AddedToken) -> str:
    """Formats what decides where an added token is found in a text."""
    names = ("single_word", "lstrip", "rstrip", "normalized")
    return ", ".join(f"{name} {str(getattr(token, name)).lower()}" for name in names)
