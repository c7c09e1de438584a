"""Settings of tokenizers: what the files state is used, and files that contradict each other are refused."""

import json
import re
import shutil

import pytest

from distilbert_jax.data.tokenizer import tokenizer as tokens
from distilbert_jax.data.tokenizer import wordpiece

NAMES = ("[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]")


@pytest.fixture
def folder(bert_folder, tmp_path):
    """A model folder with a tokenizer.json."""
    return shutil.copytree(bert_folder, tmp_path / "bert")


@pytest.fixture
def vocabulary_folder(folder):
    """A model folder with a vocab.txt only."""
    (folder / "tokenizer.json").unlink()
    return folder


def edit(path, **changes):
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({name: x for name, x in (content | changes).items() if x is not None}))


def ids(folder, text):
    return tokens.load_tokenizer(folder).encode([text])[0].ids


def refuse(folder, *parts):
    with pytest.raises(ValueError) as caught:
        tokens.load_tokenizer(folder)
    for part in (str(folder), *parts):
        assert part in str(caught.value)


@pytest.mark.parametrize("name", ["BertJapaneseTokenizer", "BertweetTokenizer", "XLMRobertaTokenizerFast", "Mine"])
@pytest.mark.parametrize("file", ["tokenizer_config.json", "config.json"])
def test_a_class_that_is_not_reproduced_is_refused_by_name(folder, name, file):
    edit(folder / "tokenizer_config.json", tokenizer_class=None)
    edit(folder / file, tokenizer_class=name)
    refuse(folder, f"{file}: the tokenizer is a {name}", "set tokenizer_class to PreTrainedTokenizerFast")


@pytest.mark.parametrize("name", [*("BertTokenizer", "BertTokenizerFast", "DistilBertTokenizerFast"), None])
def test_bert_by_its_classes(folder, name):
    edit(folder / "tokenizer_config.json", tokenizer_class=name)
    assert ids(folder, "Dog")


@pytest.mark.parametrize("settings", [{"word_tokenizer_type": "mecab"}, {"subword_tokenizer_type": "character"}])
def test_settings_of_japanese_tokenizers_without_a_class(folder, settings):
    edit(folder / "tokenizer_config.json", tokenizer_class=None, **settings)
    refuse(folder, "the tokenizer is a BertJapaneseTokenizer")


@pytest.mark.parametrize("auto_map", [["mine.Tokenizer", None], {"AutoTokenizer": ["mine.Tokenizer", None]}])
@pytest.mark.parametrize("file", ["tokenizer_config.json", "config.json"])
def test_code_in_the_folder_is_refused(folder, auto_map, file):
    edit(folder / file, auto_map=auto_map)
    refuse(folder, f"{file}: auto_map says that the tokenizer is", "mine.Tokenizer", "choose another model")


def test_other_settings_that_are_not_reproduced(folder):
    edit(folder / "tokenizer_config.json", do_basic_tokenize=False)
    refuse(folder, "do_basic_tokenize is false")
    edit(folder / "tokenizer_config.json", do_basic_tokenize=None, split_special_tokens=True)
    refuse(folder, "split_special_tokens is true")


CONTRADICTIONS = {
    "case": ({"do_lower_case": False}, "says that do_lower_case is false, but in", "it is true"),
    "accents": ({"strip_accents": False}, "says that strip_accents is false, but in", "it is true"),
    "ideographs": ({"tokenize_chinese_chars": False}, "says that tokenize_chinese_chars is false, but in", "true"),
    "unknown words": ({"unk_token": "the"}, "unknown words become '[UNK]', but the unk_token is 'the'"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
@pytest.mark.parametrize("tokenizer_class", ["BertTokenizer", "PreTrainedTokenizerFast", None])
def test_settings_that_contradict_tokenizer_json(folder, name, tokenizer_class):
    changes, *parts = CONTRADICTIONS[name]
    edit(folder / "tokenizer_config.json", tokenizer_class=tokenizer_class, **changes)
    refuse(folder, "tokenizer_config.json", "tokenizer.json", *parts)


def test_a_cased_tokenizer_json_needs_the_setting(folder):
    """Without it, Transformers lower-cases, whatever tokenizer.json says."""
    content = json.loads((folder / "tokenizer.json").read_text())
    content["normalizer"]["lowercase"] = False
    (folder / "tokenizer.json").write_text(json.dumps(content))
    edit(folder / "tokenizer_config.json", do_lower_case=None)
    refuse(folder, "does not state do_lower_case, which means true", "it is false")
    edit(folder / "tokenizer_config.json", do_lower_case=False)
    assert ids(folder, "Dog") != ids(folder, "dog")


PARTS = {
    "short words": ("model", "max_input_chars_per_word", 5, "model.max_input_chars_per_word is 5"),
    "other pieces": ("model", "continuing_subword_prefix", "@@", 'continuing_subword_prefix is "@@"'),
    "control characters": ("normalizer", "clean_text", False, "normalizer.clean_text is false"),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_tokenizer_json_that_the_class_would_not_build(folder, name):
    part, field, value, message = PARTS[name]
    content = json.loads((folder / "tokenizer.json").read_text())
    content[part][field] = value
    (folder / "tokenizer.json").write_text(json.dumps(content))
    refuse(folder, message, "set tokenizer_class to PreTrainedTokenizerFast")
    edit(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    assert ids(folder, "dog")


def test_the_general_class_needs_tokenizer_json(vocabulary_folder):
    edit(vocabulary_folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    refuse(vocabulary_folder, "a PreTrainedTokenizerFast is read from tokenizer.json")


@pytest.mark.parametrize("file", ["tokenizer_config.json", "special_tokens_map.json"])
def test_special_tokens_by_the_names_that_a_file_gives(vocabulary_folder, file):
    path = vocabulary_folder / "vocab.txt"
    roles = {f"{name[1:-1].lower()}_token": f"<{name[1:-1].lower()}>" for name in NAMES}
    path.write_text(re.sub(r"\[(\w+)\]", lambda match: f"<{match[1].lower()}>", path.read_text()))
    edit(vocabulary_folder / "tokenizer_config.json", **dict.fromkeys(roles))
    refuse(vocabulary_folder, "the tokenizer has no '[UNK]'; name its unk token as unk_token")
    edit(vocabulary_folder / file, **roles)
    tokenizer = tokens.load_tokenizer(vocabulary_folder)
    assert tokenizer.special_ids == (0, 1, 2, 3, 4)
    assert tokenizer.backend.encode("dog <mask>").tokens == ["<cls>", "dog", "<mask>", "<sep>"]


def test_two_names_for_one_special_token(folder):
    edit(folder / "special_tokens_map.json", mask_token={"content": "the"})
    refuse(folder, "says that mask_token is '[MASK]', but", "special_tokens_map.json says 'the'")


@pytest.mark.parametrize(
    "file, changes",
    [
        ("added_tokens.json", {"<place>": 88}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"88": {"content": "<place>"}}}),
        ("tokenizer_config.json", {"additional_special_tokens": ["<place>"]}),
        ("special_tokens_map.json", {"additional_special_tokens": [{"content": "<place>"}]}),
    ],
)
def test_added_tokens(folder, file, changes):
    edit(folder / file, **changes)
    with_json = ids(folder, "the <place> by a tree")
    assert 88 in with_json
    (folder / "tokenizer.json").unlink()
    assert ids(folder, "the <place> by a tree") == with_json


def test_added_tokens_whose_ids_do_not_fit(vocabulary_folder):
    edit(vocabulary_folder / "added_tokens.json", **{"<place>": 90})
    refuse(vocabulary_folder, "the added token '<place>' should have the id 90, but gets 88")
    edit(vocabulary_folder / "added_tokens.json", **{"<place>": None, "dog": 3})
    refuse(vocabulary_folder, "the added token 'dog' should have the id 3, but gets")
    edit(vocabulary_folder / "tokenizer_config.json", added_tokens_decoder={"88": {"content": "<time>"}})
    edit(vocabulary_folder / "added_tokens.json", **{"<place>": 88, "dog": None})
    refuse(vocabulary_folder, "gives '<place>' the id 88, but another added token has this id")
    edit(vocabulary_folder / "tokenizer_config.json", added_tokens_decoder={"x": {"content": "<time>"}})
    refuse(vocabulary_folder, "added_tokens_decoder has the id 'x', which is not a whole number")


def test_added_tokens_that_differ_between_two_files(folder):
    mask = {"3": {"content": "[MASK]", "lstrip": True, "normalized": False}}
    edit(folder / "tokenizer_config.json", added_tokens_decoder=mask)
    refuse(folder, "'[MASK]' has single_word false, lstrip true", "but single_word false, lstrip false")


def test_an_added_token_after_a_vocabulary_with_a_gap(vocabulary_folder):
    """Transformers would give it the id of another token."""
    path = vocabulary_folder / "vocab.txt"
    path.write_text(path.read_text() + "dog\n")
    assert ids(vocabulary_folder, "dog") == [88]
    edit(vocabulary_folder / "tokenizer_config.json", additional_special_tokens=["<place>"])
    refuse(vocabulary_folder, "the added token '<place>' gets the id 88, which 'dog' has already")


def test_lines_of_a_vocabulary():
    text = "a \nb\t\r\n\nc\u3000\u2028\nb\n a\n\x1c\n\n"
    assert wordpiece.parse_vocabulary(text) == {"a": 0, "c": 3, "b": 4, " a": 5, "\x1c": 6}


def test_lines_are_read_as_the_library_reads_them(tmp_path):
    import tokenizers

    text = "".join(f"word{i}{chr(c)}\n" for i, c in enumerate([*range(1, 10), *range(11, 0x3001)]))
    path = tmp_path / "vocab.txt"
    path.write_bytes(text.encode())
    assert wordpiece.parse_vocabulary(text) == tokenizers.models.WordPiece.read_file(str(path))
