"""Exports: the tokenizer is written so that others read the same ids, and it is compared before the export ends."""

import dataclasses
import json

import pytest
import tokenizers

from distilbert_jax.data.tokenizer import tokenizer as tokens
from distilbert_jax.hub import save, smoke
from tests.conftest import tiny_config


def export(folder, tokenizer):
    config = tiny_config(num_layers=1, vocab_size=tokenizer.vocab_size)
    smoke.save_tiny_model(folder, config, tokenizer=tokenizer, family="bert", seed=0)
    return json.loads((folder / "tokenizer_config.json").read_text()), {path.name for path in folder.iterdir()}


def change(tokenizer, **parts):
    """A copy of a tokenizer with changes to the parts of its JSON."""
    content = json.loads(tokenizer.backend.to_str())
    for name, value in parts.items():
        content[name] = {**content[name], **value} if isinstance(value, dict) else value
    return dataclasses.replace(tokenizer, backend=tokenizers.Tokenizer.from_str(json.dumps(content)))


def test_berts_tokenizer_is_written_with_its_class(tokenizer, tmp_path):
    settings, names = export(tmp_path / "m", tokenizer)
    assert settings["tokenizer_class"] == "BertTokenizer"
    assert {"vocab.txt", "tokenizer.json"} <= names
    for removed in ("vocab.txt", "tokenizer.json"):
        assert tokens.load_tokenizer(tmp_path / "m").find_difference(tokenizer) is None
        (tmp_path / "m" / removed).rename(tmp_path / removed)
        if removed == "vocab.txt":
            (tmp_path / removed).rename(tmp_path / "m" / removed)


PARTS = {
    "short words": {"model": {"max_input_chars_per_word": 5}},
    "control characters": {"normalizer": {"clean_text": False}},
    "words at spaces": {"pre_tokenizer": {"type": "WhitespaceSplit"}},
    "other normalizer": {"normalizer": {"type": "Lowercase"}},
}


@pytest.mark.parametrize("name", PARTS)
def test_any_other_is_written_with_the_general_class(tokenizer, tmp_path, name):
    changed = change(tokenizer, **PARTS[name])
    settings, names = export(tmp_path / "m", changed)
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert "vocab.txt" not in names
    assert tokens.load_tokenizer(tmp_path / "m").find_difference(changed) is None


def test_an_export_with_other_ids_is_not_finished(tokenizer, tmp_path, monkeypatch):
    export(tmp_path / "m", tokenizer)
    before = (tmp_path / "m" / "tokenizer.json").read_text()
    monkeypatch.setattr(save, "load_tokenizer", lambda folder: change(tokenizer, normalizer={"lowercase": False}))
    with pytest.raises(ValueError, match="the exported tokenizer gives other ids than the one of the training: norm"):
        export(tmp_path / "m", tokenizer)
    assert (tmp_path / "m" / "tokenizer.json").read_text() == before
