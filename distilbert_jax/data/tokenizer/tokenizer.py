"""The tokenizer of a model folder: `tokenizer.json`, or `vocab.txt` with the settings that belong to it."""

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
PROBE = "A cat, naïve; 東京 12\tﬁ"


class AddedToken(TypedDict):
    """A special token as tokenizer_config.json writes it at length."""

    content: str


class TokenizerSettings(TypedDict, total=False):
    """What is read of a tokenizer_config.json."""

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
    """A `tokenizers.Tokenizer` that neither cuts nor pads, and the ids its model gives a meaning to."""

    backend: tokenizers.Tokenizer
    cls_id: int
    sep_id: int
    pad_id: int
    mask_id: int
    unk_id: int

    @property
    def vocab_size(self) -> int:
        return self.backend.get_vocab_size(with_added_tokens=True)

    def encode(self, texts: Sequence[Any], *, offsets: bool = False, words: bool = False) -> list[tokenizers.Encoding]:
        """Each text without [CLS] and [SEP]; with `words`, each is a list of words. `offsets` says where tokens stand,
        and costs time.
        """
        encode = self.backend.encode_batch if offsets else self.backend.encode_batch_fast
        with _said("the tokenizer cannot read a text"):
            return encode(list(texts), is_pretokenized=words, add_special_tokens=False)

    @property
    def special_token_mask(self) -> tuple[int, ...]:
        """Ids that are never masked."""
        return tuple(sorted({self.cls_id, self.sep_id, self.pad_id, self.mask_id, self.unk_id}))

    @property
    def dtype(self) -> type[np.unsignedinteger]:
        """The smallest type that holds every id: 65,536 words and more need four bytes."""
        return np.uint16 if self.vocab_size <= 2**16 else np.uint32

    @functools.cached_property
    def sha256(self) -> str:
        """Of the whole tokenizer as JSON: two folders with the same one agree, whatever their files."""
        return hashlib.sha256(self.backend.to_str().encode()).hexdigest()

    def check_vocab_size(self, vocab_size: int, where: str) -> None:
        """ValueError unless the model's vocabulary is this one; up to 127 rows of padding at the end of its table
        are allowed.
        """
        if not self.vocab_size <= vocab_size < self.vocab_size + 128:
            raise ValueError(
                f"{where}: the tokenizer has {self.vocab_size} words, but the model {vocab_size}: one of them belongs to "
                "another model"
            )


def load_tokenizer(folder: pathlib.Path) -> Tokenizer:
    """Reads the tokenizer of a model folder. Raises ValueError where there is none, it is broken, or it does not say
    what it does with capitals.
    """
    stated_in = folder / "tokenizer_config.json"
    settings: dict[str, Any] = untrusted.read_json(stated_in, TokenizerSettings) if stated_in.is_file() else {}
    if (folder / "tokenizer.json").is_file():
        content = untrusted.read_text(folder / "tokenizer.json", max_bytes=untrusted.MAX_JSON_BYTES)
        backend = parse_tokenizer(content, where=str(folder / "tokenizer.json"))
    elif (folder / "vocab.txt").is_file():
        backend = _from_vocabulary(folder, settings)
    else:
        raise ValueError(f"{folder}: no tokenizer: neither tokenizer.json nor vocab.txt")
    ids = {}
    for role, usual in SPECIAL_TOKENS.items():
        stated = settings.get(f"{role}_token", usual)
        word = stated["content"] if isinstance(stated, dict) else stated
        if (found := backend.token_to_id(word)) is None:
            raise ValueError(
                f"{folder}: the tokenizer has no {word!r}; name its {role} token as {role}_token in "
                "tokenizer_config.json"
            )
        ids[f"{role}_id"] = found
    highest = max(backend.get_vocab(with_added_tokens=True).values())
    if highest >= (size := backend.get_vocab_size(with_added_tokens=True)):
        raise ValueError(f"{folder}: the tokenizer has {size:,} words, but numbers them up to {highest:,}")
    return Tokenizer(backend=backend, **ids)


def parse_tokenizer(text: str, *, where: str) -> tokenizers.Tokenizer:
    """A tokenizer from its JSON, with cutting and padding switched off. ValueError where it is none, or where reading a
    text could take for ever.
    """
    check_tokenizer_json(text, where=where)
    with _said(f"{where}: not a tokenizer that can be read"):
        backend = tokenizers.Tokenizer.from_str(text)
        backend.no_truncation()
        backend.no_padding()
        backend.encode_batch([PROBE])  # some tables are looked at no earlier
    return backend


@contextlib.contextmanager
def _said(refused: str) -> Iterator[None]:
    """What the library raises, as a ValueError: plain Exceptions, and a PanicException that is no Exception at all."""
    try:
        yield
    except BaseException as error:
        if type(error) is Exception or type(error).__name__ == "PanicException":
            raise ValueError(f"{refused}: {error}") from None
        raise


def _from_vocabulary(folder: pathlib.Path, settings: dict[str, Any]) -> tokenizers.Tokenizer:
    if "do_lower_case" not in settings:
        raise ValueError(
            f"{folder}: vocab.txt alone does not say whether text is lower-cased; add tokenizer_config.json with "
            '{"do_lower_case": true} for an uncased model, false for a cased one'
        )
    words = untrusted.read_text(folder / "vocab.txt", max_bytes=untrusted.MAX_JSON_BYTES).rstrip("\n").split("\n")
    vocabulary = {word: i for i, word in enumerate(words)}
    if len(vocabulary) != len(words):
        raise ValueError(f"{folder / 'vocab.txt'}: {len(words) - len(vocabulary)} words stand there twice")
    if missing := [word for word in (SPECIAL_TOKENS["cls"], SPECIAL_TOKENS["sep"]) if word not in vocabulary]:
        raise ValueError(f"{folder / 'vocab.txt'}: there is no {missing[0]}, so it is no vocabulary of a BERT")
    built = tokenizers.BertWordPieceTokenizer(
        vocab=vocabulary,
        lowercase=settings["do_lower_case"],
        strip_accents=settings.get("strip_accents"),
        handle_chinese_chars=settings.get("tokenize_chinese_chars") is not False,
    )
    return parse_tokenizer(built.to_str(), where=str(folder / "vocab.txt"))
