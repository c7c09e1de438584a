"""Teachers and students whose predictions cannot be compared are refused, with the difference."""

import dataclasses
import json
import shutil

import pytest

from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.hub.load import load_pretrained
from distilbert_jax.losses.soft_targets import SoftTargets
from distilbert_jax.train.compatibility import check_comparable

LOSSES = {"soft": SoftTargets()}


@pytest.fixture
def folder(bert_folder, tmp_path):
    return shutil.copytree(bert_folder, tmp_path / "bert")


def check(teacher, student):
    check_comparable(teacher, student, LOSSES, student_layers=2)


def test_one_vocabulary_saved_in_two_ways(folder, bert):
    (folder / "tokenizer.json").unlink()
    check(bert, load_pretrained(Pretrained(str(folder))))


def test_two_vocabularies(folder, bert):
    (folder / "tokenizer.json").unlink()
    text = (folder / "vocab.txt").read_text()
    (folder / "vocab.txt").write_text(text.replace("\ndog\n", "\n#\n").replace("\nold\n", "\ndog\n"))
    with pytest.raises(ValueError, match="different tokenizers, so .*: vocabulary → # is null in one of them and"):
        check(bert, load_pretrained(Pretrained(str(folder))))


def test_two_cases(folder, bert):
    (folder / "tokenizer.json").unlink()
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"do_lower_case": False}))
    with pytest.raises(ValueError, match="normalizer → 1 → lowercase is true in one of them and false in the other"):
        check(bert, load_pretrained(Pretrained(str(folder))))


def test_other_numbers_of_rows(bert):
    config = dataclasses.replace(bert.config, vocab_size=128)
    with pytest.raises(ValueError, match="have 88 rows, but those of the student .* have 128, so their logits cannot"):
        check(bert, dataclasses.replace(bert, config=config))
