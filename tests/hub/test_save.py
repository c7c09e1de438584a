"""Exports: others read the same ids from the tokenizer, which is compared, and no file of the user is replaced."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import tokenizers

from distilbert_jax.data.tokenizer import tokenizer as tokens
from distilbert_jax.hub import load, save, smoke
from distilbert_jax.io import files
from distilbert_jax.io.folder_marker import read_marker
from distilbert_jax.models.families import bert
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


def save_model(folder, tokenizer, *, seed=0):
    smoke.save_tiny_model(folder, tiny_config(num_layers=1), tokenizer=tokenizer, family="bert", seed=seed)


def test_the_same_model_again_leaves_what_the_user_changed(tmp_path, tokenizer):
    folder = tmp_path / "export"
    save_model(folder, tokenizer)
    (folder / "README.md").write_text("my own card")
    (folder / "notes.txt").write_text("mine")
    before = files.folder_hashes(folder)
    save_model(folder, tokenizer)
    assert files.folder_hashes(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_another_model_does_not_replace_files_of_the_user(tmp_path, tokenizer):
    folder = tmp_path / "export"
    save_model(folder, tokenizer)
    before = files.sha256(folder / "model.safetensors")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="has notes.txt, which this program did not write. Move it to another folder"):
        save_model(folder, tokenizer, seed=1)
    assert files.sha256(folder / "model.safetensors") == before
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
    (folder / "notes.txt").rename(tmp_path / "notes.txt")
    save_model(folder, tokenizer, seed=1)
    assert files.sha256(folder / "model.safetensors") != before


def test_a_folder_without_a_marker_is_not_replaced(tmp_path, tokenizer):
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "keep.txt").write_text("mine")
    with pytest.raises(ValueError, match="has files that this program did not make, such as keep.txt"):
        save_model(tmp_path / "export", tokenizer)
    assert [path.name for path in (tmp_path / "export").iterdir()] == ["keep.txt"]


def test_the_card_of_the_same_model_is_replaced_unless_the_user_changed_it(tmp_path, tokenizer):
    model = {"family": bert, "config": tiny_config(num_layers=1), "tokenizer": tokenizer}
    shapes = load.parameter_shapes(model["config"])
    model["params"] = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), shapes)
    for card in ("first", "second"):
        save.save_pretrained(tmp_path / "export", card=card, made_from={"step": card}, **model)
        assert (tmp_path / "export" / "README.md").read_text() == card
        assert read_marker(tmp_path / "export")["made_from"]["step"] == card
    (tmp_path / "export" / "README.md").write_text("mine")
    save.save_pretrained(tmp_path / "export", card="third", **model)
    assert (tmp_path / "export" / "README.md").read_text() == "mine"
