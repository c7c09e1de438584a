"""What we write, read by transformers; and the conversion we tell people to run."""

import json
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers

from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.data.tokenizer import tokenizer as tokens
from distilbert_jax.heads.masked_lm import MaskedLM
from distilbert_jax.hub import load, smoke
from tests.conftest import shared, tiny_config
from tests.torch.models import EVERY, batch_of, random_model, torch, transformers, write

SENTENCES = ("The old dog sees a small green bird in the tree.", ("He was far from it.", "She sleeps by the stone."))


def whole(folder, auto):
    """A model without a missing, unexpected or re-initialised weight."""
    model, info = auto.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    return model.eval()


def ours(folder, encoded):
    model = load.load_pretrained(Pretrained(str(folder)))
    ids, mask = encoded["input_ids"].numpy(), encoded["attention_mask"].numpy()
    types = encoded["token_type_ids"].numpy() if "token_type_ids" in encoded else np.zeros_like(ids)
    return jax.jit(MaskedLM(model.config).apply)(
        {"params": jax.tree.map(jnp.asarray, model.params)}, batch_of(ids, mask, types)
    )


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_transformers_loads_our_folder_and_agrees(family, bert_folder, distilbert_folder):
    folder = {"bert": bert_folder, "distilbert": distilbert_folder}[family]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = whole(folder, transformers.AutoModelForMaskedLM)
    for sentence in SENTENCES:
        pair = sentence if isinstance(sentence, tuple) else (sentence,)
        encoded = tokenizer(*pair, return_tensors="pt")
        with torch.no_grad():
            wanted = model(**encoded, output_hidden_states=True)
        got = ours(folder, encoded)
        np.testing.assert_allclose(got.logits.to_dense(), wanted.logits, **EVERY)
        np.testing.assert_allclose(got.hidden_states[-1], wanted.hidden_states[-1], **EVERY)


def test_the_students_tokenizer_gives_what_the_model_takes(bert_folder, distilbert_folder):
    """Ids as the teacher's, and no token types, which transformers 5 would swallow and 4 would refuse; on one text
    and on a pair.
    """
    teacher = transformers.AutoTokenizer.from_pretrained(bert_folder)
    student = transformers.AutoTokenizer.from_pretrained(distilbert_folder)
    model = transformers.AutoModel.from_pretrained(distilbert_folder).eval()
    for sentence in SENTENCES:
        pair = sentence if isinstance(sentence, tuple) else (sentence,)
        encoded = student(*pair, return_tensors="pt")
        assert set(encoded) == {"input_ids", "attention_mask"}
        assert encoded["input_ids"].tolist() == teacher(*pair, return_tensors="pt")["input_ids"].tolist()
        with torch.no_grad():
            wanted = model(**encoded).last_hidden_state
        np.testing.assert_allclose(ours(distilbert_folder, encoded).hidden_states[-1], wanted, **EVERY)


@pytest.mark.parametrize("lowercase", [True, False])
def test_capitals_survive_the_export(tmp_path, lowercase):
    words = [*tokens.SPECIAL_TOKENS.values(), "Dog", "dog", "É", "e", "a"]
    built = tokenizers.BertWordPieceTokenizer(vocab={word: i for i, word in enumerate(words)}, lowercase=lowercase)
    backend = tokens.parse_tokenizer(built.to_str(), where="here")
    whole_one = tokens.Tokenizer(
        backend=backend, **{f"{role}_id": words.index(word) for role, word in tokens.SPECIAL_TOKENS.items()}
    )
    smoke.save_tiny_model(
        tmp_path / "m",
        tiny_config(vocab_size=len(words), num_token_types=0),
        tokenizer=whole_one,
        family="distilbert",
        seed=0,
    )
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path / "m")
    assert loaded("Dog a É")["input_ids"] == backend.encode("Dog a É").ids
    assert (loaded.mask_token, loaded.model_max_length) == ("[MASK]", 64)


def test_the_conversion_of_a_pickle_works_as_printed(tmp_path):
    folder = write(random_model("bert"), tmp_path / "old")
    torch.save(random_model("bert").state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    (folder / "vocab.txt").write_text("x\n")
    with pytest.raises(ValueError, match="is a pickle") as caught:
        load.load_pretrained(Pretrained(str(folder)))
    for line in str(caught.value).splitlines()[2:]:
        subprocess.run(line.replace("python ", f"{sys.executable} ", 1), shell=True, check=True, capture_output=True)
    converted = load.load_pretrained(Pretrained(f"{folder}-safe"))
    assert converted.has_head


def test_the_real_teacher_on_real_sentences(tmp_path):
    source = shared("teachers/minilm-l6-h384-mlm")
    model = transformers.AutoModelForMaskedLM.from_pretrained(source, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    lines = shared("data/corpus/wikitext2_valid.txt").read_text().split("\n")
    sentences = [line for line in lines if len(line) > 200][:8]
    encoded = tokenizer(sentences, return_tensors="pt", padding=True, truncation=True, max_length=128)
    with torch.no_grad():
        wanted = model(**encoded).logits.numpy()
    real = encoded["attention_mask"].numpy().astype(bool)
    got = np.asarray(ours(source, encoded).logits.to_dense())
    largest = np.abs(wanted[real]).max()
    assert np.abs(got - wanted)[real].max() <= 1e-5 * largest


def test_flax_names_would_be_reinitialised_in_silence(distilbert_folder, tmp_path):
    """Why the export writes PyTorch's names: with others, transformers 5 loads a random model and only warns."""
    import safetensors.numpy

    folder = shutil.copytree(distilbert_folder, tmp_path / "flax")
    flat = safetensors.numpy.load_file(folder / "model.safetensors")
    renamed = {name.replace(".weight", ".kernel"): x for name, x in flat.items()}
    safetensors.numpy.save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    _, info = transformers.AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert info["missing_keys"]
    with pytest.raises(ValueError, match="missing from the encoder"):
        load.load_pretrained(Pretrained(str(folder)))
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["DistilBertForMaskedLM"]
