"""Tokenizers of other people: the ids of our reading, of our export and of Transformers are the same."""

import json

import pytest

from distilbert_jax.data.tokenizer import identity
from distilbert_jax.data.tokenizer import tokenizer as tokens
from distilbert_jax.hub import smoke
from tests.conftest import tiny_config
from tests.torch.models import transformers

LETTERS = "abcdefghijklmnopqrstuvwxyzÉéñ東京の"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, *"ABC.,!?<>[]_", *LETTERS, *(f"##{x}" for x in LETTERS), "dog", "Dog", "tree", "東京"]
OTHER_NAMES = {"[PAD]": "<pad>", "[UNK]": "<unk>", "[CLS]": "<s>", "[SEP]": "</s>", "[MASK]": "<mask>"}
OTHER_ROLES = {f"{name[1:-1].lower()}_token": other for name, other in OTHER_NAMES.items()}
RENAMED = [OTHER_NAMES.get(word, word) for word in WORDS]
PLACE = {"content": "<place>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": True}
TEXTS = (
    *identity.PROBE_TEXTS,
    "the Dog [MASK] by the <place> tree",
    "[UNK] <unk> <MASK>[mask] x[SEP]y </s> <s>",
    "<place><time> <PLACE> dog<place>tree",
    "tree dog dog tree",
)


def vocabulary(words=WORDS, end="\n"):
    return "".join(f"{word}{end}" for word in words)


def uncased(**settings):
    return {"do_lower_case": True, **settings}


def tokenizer_json(words=WORDS, special=SPECIAL, **changes):
    """A tokenizer.json like that of BERT, with changes to its parts."""
    ids = {word: i for i, word in enumerate(words)}
    token = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": ids[word], "content": word, **token} for word in special],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": ids,
        },
    }
    return content | changes | {"model": content["model"] | changes.get("model", {})}


def general(**changes):
    roles = {f"{name[1:-1].lower()}_token": name for name in SPECIAL}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **roles}
    return {"tokenizer.json": tokenizer_json(**changes), "tokenizer_config.json": settings}


def place_at(token_id):
    return {"added_tokens_decoder": {str(token_id): {**PLACE, "special": False}}}


SIZE = len(WORDS)
FOLDERS = {
    "uncased": {"vocab.txt": vocabulary(), "tokenizer_config.json": uncased()},
    "cased": {"vocab.txt": vocabulary(), "tokenizer_config.json": {"do_lower_case": False}},
    "accents kept": {"vocab.txt": vocabulary(), "tokenizer_config.json": uncased(strip_accents=False)},
    "accents cut": {
        "vocab.txt": vocabulary(),
        "tokenizer_config.json": {"do_lower_case": False, "strip_accents": True},
    },
    "ideographs joined": {"vocab.txt": vocabulary(), "tokenizer_config.json": uncased(tokenize_chinese_chars=False)},
    "fast class": {"vocab.txt": vocabulary(), "tokenizer_config.json": uncased(tokenizer_class="BertTokenizerFast")},
    "ELECTRA's class": {
        "vocab.txt": vocabulary(),
        "tokenizer_config.json": uncased(tokenizer_class="ElectraTokenizer"),
    },
    "spaces after words": {"vocab.txt": vocabulary(end=" \t\u3000\u2028\n"), "tokenizer_config.json": uncased()},
    "Windows line ends": {"vocab.txt": vocabulary(end="\r\n"), "tokenizer_config.json": uncased()},
    "empty line": {"vocab.txt": vocabulary([*WORDS[:20], "", *WORDS[20:]]), "tokenizer_config.json": uncased()},
    "a word twice": {"vocab.txt": vocabulary([*WORDS, "dog"]), "tokenizer_config.json": uncased()},
    "other names": {"vocab.txt": vocabulary(RENAMED), "tokenizer_config.json": uncased(**OTHER_ROLES)},
    "other names in the older file": {
        "vocab.txt": vocabulary(RENAMED),
        "tokenizer_config.json": uncased(),
        "special_tokens_map.json": OTHER_ROLES | {"mask_token": {"content": "<mask>", "lstrip": True}},
    },
    "added tokens in the older file": {
        "vocab.txt": vocabulary(),
        "tokenizer_config.json": uncased(),
        "added_tokens.json": {"<place>": SIZE, "<time>": SIZE + 1},
    },
    "added tokens": {"vocab.txt": vocabulary(), "tokenizer_config.json": uncased(**place_at(SIZE))},
    "an added token of the vocabulary": {
        "vocab.txt": vocabulary(),
        "tokenizer_config.json": uncased(added_tokens_decoder={str(WORDS.index("dog")): {"content": "dog"}}),
    },
    "further special tokens": {
        "vocab.txt": vocabulary(),
        "tokenizer_config.json": uncased(additional_special_tokens=["tree", "<place>"], bos_token="dog"),
    },
    "tokenizer.json": {"tokenizer.json": tokenizer_json(), "tokenizer_config.json": uncased()},
    "tokenizer.json alone": {"tokenizer.json": tokenizer_json()},
    "short words": general(model={"max_input_chars_per_word": 3}),
    "no special tokens": general(special=[]),
    "other normalizer": general(normalizer={"type": "Lowercase"}),
    "no normalizer": general(normalizer=None),
    "words at spaces": general(pre_tokenizer={"type": "WhitespaceSplit"}),
    "other pieces": general(model={"continuing_subword_prefix": ""}),
    "nothing added": general(post_processor=None),
    "added tokens in tokenizer.json": general(
        words=[*WORDS, "<place>"],
        special=[*SPECIAL, "<place>"],
    ),
}


def write(folder, files):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_text(text, encoding="utf-8", newline="")
    return folder


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_ids_before_and_after_an_export(name, family, tmp_path):
    folder = write(tmp_path / "source", FOLDERS[name])
    tokenizer = tokens.load_tokenizer(folder)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        assert tokenizer.encode([text])[0].ids == theirs(text, add_special_tokens=False)["input_ids"], text
    config = tiny_config(vocab_size=tokenizer.vocab_size, num_token_types=2 if family == "bert" else 0)
    smoke.save_tiny_model(tmp_path / "export", config, tokenizer=tokenizer, family=family, seed=0)
    exported = transformers.AutoTokenizer.from_pretrained(tmp_path / "export")
    for text in TEXTS:
        assert exported(text)["input_ids"] == tokenizer.backend.encode(text).ids, text
    pair = exported("the dog", "a tree")["input_ids"]
    ids = [encoding.ids for encoding in tokenizer.encode(["the dog", "a tree"])]
    assert pair == [tokenizer.cls_id, *ids[0], tokenizer.sep_id, *ids[1], tokenizer.sep_id]
    assert tokens.load_tokenizer(tmp_path / "export").sha256 == tokenizer.sha256
