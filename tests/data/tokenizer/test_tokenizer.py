"""Tokenizers of model folders."""

import json
import shutil

import numpy as np
import pytest
import tokenizers

from distilbert_jax.data.shards import packing
from distilbert_jax.data.tokenizer import tokenizer as tokens
from tests.conftest import shared


@pytest.fixture
def folder(bert_folder, tmp_path):
    return shutil.copytree(bert_folder, tmp_path / "bert")


def test_tokenizer_json_and_vocab_txt_agree(folder):
    from_json = tokens.load_tokenizer(folder)
    (folder / "tokenizer.json").unlink()
    from_vocabulary = tokens.load_tokenizer(folder)
    text = "The old Dog ran far, unknown9 naïve."
    assert from_vocabulary.backend.encode(text).ids == from_json.backend.encode(text).ids
    assert from_vocabulary.special_ids == from_json.special_ids == (0, 1, 2, 3, 4)


def test_lower_casing_must_be_stated_and_is_not_guessed(folder):
    (folder / "tokenizer.json").unlink()
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["do_lower_case"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="does not say whether text is lower-cased; add tokenizer_config.json"):
        tokens.load_tokenizer(folder)
    cased = settings | {"do_lower_case": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(cased))
    assert tokens.load_tokenizer(folder).backend.encode("Dog").tokens != ["[CLS]", "dog", "[SEP]"]


def test_truncation_and_padding_in_the_file_are_switched_off(folder):
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.enable_truncation(8)
    backend.enable_padding(length=8)
    backend.save(str(folder / "tokenizer.json"))
    assert len(tokens.load_tokenizer(folder).backend.encode("dog " * 50).ids) == 52
    assert len(tokens.load_tokenizer(folder).backend.encode("dog").ids) == 3


def test_the_hash_is_of_the_tokenizer_and_not_of_the_file(folder):
    before = tokens.load_tokenizer(folder).sha256
    text = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(text, indent=4))
    assert tokens.load_tokenizer(folder).sha256 == before


def test_special_tokens_by_other_names(folder):
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text.replace("[MASK]", "<mask>"))
    with pytest.raises(ValueError, match=r"the tokenizer has no '\[MASK\]'; name its mask token"):
        tokens.load_tokenizer(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text()) | {"mask_token": {"content": "<mask>"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert tokens.load_tokenizer(folder).mask_id == 3


@pytest.mark.parametrize("content", ["{", "[]", '{"model": 3}', '{"version": "1.0"}', ""])
def test_broken_files(folder, content):
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(ValueError, match="tokenizer.json: not a tokenizer that can be read"):
        tokens.load_tokenizer(folder)


def test_no_tokenizer_at_all(folder):
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n")
    with pytest.raises(ValueError, match="vocab.txt is empty"):
        tokens.load_tokenizer(folder)
    (folder / "vocab.txt").unlink()
    with pytest.raises(ValueError, match="no tokenizer: the folder has neither tokenizer.json nor vocab.txt"):
        tokens.load_tokenizer(folder)


def test_check_vocab_size(tokenizer):
    tokenizer.check_vocab_size(tokenizer.vocab_size, "here")
    tokenizer.check_vocab_size(tokenizer.vocab_size + 1_000, "here")
    message = (
        "here: the model's embedding has only 87 rows, but the tokenizer has 88 ids; the last one is that of 'with'"
    )
    with pytest.raises(ValueError, match=message):
        tokenizer.check_vocab_size(tokenizer.vocab_size - 1, "here")


def test_a_large_vocabulary_needs_four_bytes():
    """The original kept ids of the multilingual vocabulary, 119,547 words, in two: 45 % of its corpus was corrupted."""
    folder = shared("data/vocab/bert-base-multilingual-cased")
    built = tokenizers.BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=False)
    backend = tokens.parse_tokenizer(built.to_str(), where=str(folder))
    tokenizer = tokens.Tokenizer(
        backend=backend, **{f"{role}_id": backend.token_to_id(token) for role, token in tokens.SPECIAL_TOKENS.items()}
    )
    assert (tokenizer.vocab_size, tokenizer.dtype) == (119_547, np.uint32)
    packed = packing.pack([" ".join(["ตัวอย่าง", "пример", "例"] * 20)], tokenizer, sequence_length=64)
    assert packed.tokens.dtype == np.uint32
    assert packed.tokens.max() > 2**16


def test_the_real_vocabularies():
    tokenizer = tokens.load_tokenizer(shared("data/vocab/bert-base-uncased-hf"))
    assert (tokenizer.vocab_size, tokenizer.special_ids, tokenizer.dtype) == (
        30_522,
        (0, 100, 101, 102, 103),
        np.uint16,
    )
    assert tokenizer.backend.encode("Hello, naïve World").tokens == ["[CLS]", "hello", ",", "naive", "world", "[SEP]"]


def save_as(folder, target, edit):
    """Copies a folder and edits the content of its tokenizer.json."""
    shutil.copytree(folder, target)
    content = json.loads((target / "tokenizer.json").read_text())
    edit(content)
    (target / "tokenizer.json").write_text(json.dumps(content, sort_keys=True))
    return tokens.load_tokenizer(target)


SAME = {
    "template": lambda content: content.update(post_processor=None),
    "decoder": lambda content: content.update(decoder=None),
    "accents": lambda content: content["normalizer"].update(strip_accents=True),
    "special tokens not added": lambda content: content.update(added_tokens=[]),
    "truncation": lambda content: content.update(
        truncation={"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    ),
}
OTHER = {
    "words": (lambda content: content["model"]["vocab"].update(dog=88), "vocabulary → dog is"),
    "case": (lambda content: content["normalizer"].update(lowercase=False, strip_accents=True), "lowercase"),
    "long words": (lambda content: content["model"].update(max_input_chars_per_word=50), "max_input_chars_per_word"),
}


@pytest.mark.parametrize("name", SAME)
def test_two_files_that_give_the_same_ids_are_one_tokenizer(folder, tmp_path, name):
    one = tokens.load_tokenizer(folder)
    other = save_as(folder, tmp_path / "other", SAME[name])
    assert one.find_difference(other) is None
    assert one.sha256 == other.sha256


def test_vocab_txt_and_tokenizer_json_are_one_tokenizer(folder):
    one = tokens.load_tokenizer(folder)
    (folder / "tokenizer.json").unlink()
    assert one.sha256 == tokens.load_tokenizer(folder).sha256


@pytest.mark.parametrize("name", OTHER)
def test_the_difference_between_two_tokenizers_is_named(folder, tmp_path, name):
    edit, message = OTHER[name]
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    general = {key: value for key, value in settings.items() if key.endswith("_token")}
    general["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(general))
    one, other = tokens.load_tokenizer(folder), save_as(folder, tmp_path / "other", edit)
    assert message in one.find_difference(other)
    assert one.sha256 != other.sha256
