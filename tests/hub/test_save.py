"""What happens to a folder that a model is written to, if something is there already."""

import pytest

from distilbert_jax.hub import smoke
from distilbert_jax.io import files
from tests.conftest import tiny_config


def save(folder, tokenizer, *, seed=0):
    smoke.save_tiny_model(folder, tiny_config(num_layers=1), tokenizer=tokenizer, family="bert", seed=seed)


def test_the_same_model_again_leaves_what_the_user_changed(tmp_path, tokenizer):
    folder = tmp_path / "export"
    save(folder, tokenizer)
    (folder / "README.md").write_text("my own card")
    (folder / "notes.txt").write_text("mine")
    before = files.folder_hashes(folder)
    save(folder, tokenizer)
    assert files.folder_hashes(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_another_model_does_not_replace_files_of_the_user(tmp_path, tokenizer):
    folder = tmp_path / "export"
    save(folder, tokenizer)
    before = files.sha256(folder / "model.safetensors")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="has notes.txt, which this program did not write. Move it to another folder"):
        save(folder, tokenizer, seed=1)
    assert files.sha256(folder / "model.safetensors") == before
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
    (folder / "notes.txt").rename(tmp_path / "notes.txt")
    save(folder, tokenizer, seed=1)
    assert files.sha256(folder / "model.safetensors") != before


def test_a_folder_without_a_marker_is_not_replaced(tmp_path, tokenizer):
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "keep.txt").write_text("mine")
    with pytest.raises(ValueError, match="has files that this program did not make, such as keep.txt"):
        save(tmp_path / "export", tokenizer)
    assert [path.name for path in (tmp_path / "export").iterdir()] == ["keep.txt"]
