"""The tokenizer of a model folder: `tokenizer.json`, or `vocab.txt` with the settings that belong to it."""

import dataclasses
import functools
import hashlib
import json
import pathlib
from typing import Any

import numpy as np
import tokenizers

ROLES = {"cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "mask": "[MASK]", "unk": "[UNK]"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """A `tokenizers.Tokenizer` that neither cuts nor pads, and the ids its model gives a meaning to."""

    backend: tokenizers.Tokenizer
    cls: int
    sep: int
    pad: int
    mask: int
    unk: int

    @property
    def size(self) -> int:
        return self.backend.get_vocab_size(with_added_tokens=True)

    @property
    def special(self) -> tuple[int, ...]:
        """Ids that are never masked."""
        return tuple(sorted({self.cls, self.sep, self.pad, self.mask, self.unk}))

    @property
    def dtype(self) -> type[np.unsignedinteger]:
        """The smallest type that holds every id: 65,536 words and more need four bytes."""
        return np.uint16 if self.size <= 2**16 else np.uint32

    @functools.cached_property
    def sha256(self) -> str:
        """Of the whole tokenizer as JSON: two folders with the same one agree, whatever their files."""
        return hashlib.sha256(self.backend.to_str().encode()).hexdigest()

    def belongs_to(self, vocab_size: int, where: str) -> None:
        """ValueError unless the model's vocabulary is this one; up to 127 rows of padding at the end of its table
        are allowed.
        """
        if not self.size <= vocab_size < self.size + 128:
            raise ValueError(
                f"{where}: the tokenizer has {self.size} words, but the model {vocab_size}: one of them belongs to "
                "another model"
            )


def load(folder: pathlib.Path) -> Tokenizer:
    """Reads the tokenizer of a model folder. Raises ValueError where there is none, it is broken, or it does not say
    what it does with capitals.
    """
    settings = _json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    if (folder / "tokenizer.json").is_file():
        backend = parse((folder / "tokenizer.json").read_text(encoding="utf-8"), where=str(folder / "tokenizer.json"))
    elif (folder / "vocab.txt").is_file():
        backend = _from_vocabulary(folder, settings)
    else:
        raise ValueError(f"{folder}: no tokenizer: neither tokenizer.json nor vocab.txt")
    ids = {}
    for role, usual in ROLES.items():
        stated = settings.get(f"{role}_token", usual)
        word = stated["content"] if isinstance(stated, dict) else stated
        if (found := backend.token_to_id(word)) is None:
            raise ValueError(
                f"{folder}: the tokenizer has no {word!r}; name its {role} token as {role}_token in "
                "tokenizer_config.json"
            )
        ids[role] = found
    return Tokenizer(backend=backend, **ids)


def parse(text: str, *, where: str) -> tokenizers.Tokenizer:
    """A tokenizer from its JSON, with cutting and padding switched off."""
    try:
        backend = tokenizers.Tokenizer.from_str(text)
    except BaseException as error:  # the library's PanicException is no Exception
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise ValueError(f"{where}: not a tokenizer that can be read: {error}") from None
        raise
    backend.no_truncation()
    backend.no_padding()
    return backend


def _from_vocabulary(folder: pathlib.Path, settings: dict[str, Any]) -> tokenizers.Tokenizer:
    if "do_lower_case" not in settings:
        raise ValueError(
            f"{folder}: vocab.txt alone does not say whether text is lower-cased; add tokenizer_config.json with "
            '{"do_lower_case": true} for an uncased model, false for a cased one'
        )
    words = (folder / "vocab.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")
    vocabulary = {word: i for i, word in enumerate(words)}
    if len(vocabulary) != len(words):
        raise ValueError(f"{folder / 'vocab.txt'}: {len(words) - len(vocabulary)} words stand there twice")
    built = tokenizers.BertWordPieceTokenizer(
        vocab=vocabulary,
        lowercase=settings["do_lower_case"],
        strip_accents=settings.get("strip_accents"),
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
    )
    return parse(built.to_str(), where=str(folder / "vocab.txt"))


def _json(path: pathlib.Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: not a JSON object")
    return content
