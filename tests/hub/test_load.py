"""Model folders: every supported format is loaded, and the others give a clear message."""

import dataclasses
import json
import shutil

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.hub.load import load_pretrained
from distilbert_jax.models.families import bert as bert_family
from tests.conftest import shared, tiny_config
from tests.helpers.batches import assert_close, assert_same


@pytest.fixture
def folder(bert_folder, tmp_path):
    return shutil.copytree(bert_folder, tmp_path / "model")


def weights(folder):
    return safetensors.numpy.load_file(folder / "model.safetensors")


def save(folder, tensors, name="model.safetensors"):
    safetensors.numpy.save_file(tensors, folder / name)


def edit(folder, name, **changes):
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({k: v for k, v in (content | changes).items() if v is not None}))


def load(folder, **expected):
    return load_pretrained(Pretrained(str(folder), **expected))


def test_a_saved_model_is_loaded_unchanged(bert, bert_folder):
    assert bert.config == tiny_config()
    assert bert.family is bert_family
    assert bert.has_head
    assert bert.hub_id is None
    assert len(bert.sha256) == 64
    load(bert_folder, family="bert", config=tiny_config(), sha256=bert.sha256)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_files(folder, bert, dtype):
    save(folder, {name: x.astype(dtype) for name, x in weights(folder).items()})
    half = load(folder).params
    assert all(x.dtype == np.float32 for x in jax.tree.leaves(half))
    assert_close(half, bert.params, rtol=1e-2, atol=1e-3)


def test_sharded_files(folder, bert):
    tensors = weights(folder)
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[:20], "model-00002-of-00002.safetensors": names[20:]}
    for file, members in parts.items():
        save(folder, {name: tensors[name] for name in members}, file)
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {name: file for file, members in parts.items() for name in members}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_same(load(folder).params, bert.params)

    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ValueError, match="names model-00002-of-00002.safetensors, which is missing"):
        load(folder)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../../etc/passwd"}}))
    with pytest.raises(ValueError, match="which is not a file in its folder"):
        load(folder)
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ValueError, match="not an index of safetensors"):
        load(folder)


def test_a_pickle_is_refused_and_the_conversion_printed(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(
        ValueError, match="is a pickle.*not loaded. If you trust it, convert it:\n  pip install torch"
    ) as caught:
        load(folder)
    assert "save_pretrained" in str(caught.value)


def test_a_model_without_its_head(folder):
    save(folder, {name: x for name, x in weights(folder).items() if not name.startswith("cls.")})
    assert not load(folder).has_head


def test_the_config_in_the_experiment_is_checked(folder, bert):
    with pytest.raises(
        ValueError, match=r"another config than the experiment states: num_layers 4 \(the experiment says 6\)"
    ):
        load(folder, config=tiny_config(num_layers=6))
    with pytest.raises(ValueError, match="holds a bert model, but the experiment says distilbert"):
        load(folder, family="distilbert")
    with pytest.raises(ValueError, match=f"have SHA-256 {bert.sha256}, not {'0' * 64} as the experiment says"):
        load(folder, sha256="0" * 64)


def test_learned_positions_are_used_even_if_the_config_says_sinusoidal(distilbert_folder, tmp_path):
    folder = shutil.copytree(distilbert_folder, tmp_path / "model")
    edit(folder, "config.json", sinusoidal_pos_embds=True)
    assert_same(load(folder).params, load(distilbert_folder).params)


BAD_CONFIGS = {
    "unknown family": ({"model_type": "llama"}, "model_type 'llama' is not supported. Use one of bert, distilbert"),
    "no family": ({"model_type": None}, "model_type None is not supported"),
    "activation": ({"hidden_act": "relu"}, "activation 'relu' is not supported. Use a model with one of gelu"),
    "positions": (
        {"position_embedding_type": "relative_key"},
        "position_embedding_type 'relative_key' is not supported",
    ),
    "decoder": ({"is_decoder": True}, "is_decoder is true"),
    "untied": ({"tie_word_embeddings": False}, "tie_word_embeddings is false"),
    "missing": ({"hidden_size": None}, "has no value for 'hidden_size'"),
    "text for a number": ({"hidden_size": "many"}, "hidden_size"),
    "negative": ({"num_hidden_layers": -1}, "num_layers must be a positive whole number, not -1"),
    "heads": ({"num_attention_heads": 5}, "hidden_size is 24 and num_heads is 5"),
}


@pytest.mark.parametrize("name", BAD_CONFIGS)
def test_bad_configs(folder, name):
    changes, message = BAD_CONFIGS[name]
    edit(folder, "config.json", **changes)
    with pytest.raises(ValueError, match=message) as caught:
        load(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("content", ["{", "[]", "3", ""])
def test_a_config_that_is_not_a_json_object(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises(ValueError, match="config.json: "):
        load(folder)


def test_broken_weights(folder):
    content = (folder / "model.safetensors").read_bytes()
    for broken in (content[:-100], content[: len(content) // 2], content[:4], b"", b"\xff" * 64):
        (folder / "model.safetensors").write_bytes(broken)
        with pytest.raises(ValueError, match="model.safetensors is truncated or not a safetensors file"):
            load(folder)


def test_unknown_tensors_name_the_folder(folder):
    tensors = weights(folder)
    save(folder, tensors | {"surprise": np.zeros(1)})
    with pytest.raises(ValueError, match=f"{folder}: 1 tensor is unknown"):
        load(folder)


def test_not_a_model(tmp_path, folder):
    with pytest.raises(ValueError, match="the model folder ./nowhere does not exist"):
        load("./nowhere")
    with pytest.raises(ValueError, match="is not a model folder: it has no config.json"):
        load(tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="is not a model folder: it has no model.safetensors"):
        load(folder)
    with pytest.raises(ValueError, match="the package no-such-package is not installed; run: python -m pip install"):
        load("package:no-such-package")
    with pytest.raises(ValueError, match="the package pytest does not contain model.safetensors"):
        load("package:pytest")


@pytest.mark.parametrize("rows", [88, 215, 216, 400])
def test_spare_rows_are_read_and_many_are_reported(folder, rows, capsys):
    edit(folder, "config.json", vocab_size=rows)
    tensors = weights(folder)
    tensors["bert.embeddings.word_embeddings.weight"] = np.zeros((rows, 24), np.float32)
    tensors["cls.predictions.bias"] = np.zeros(rows, np.float32)
    save(folder, tensors)
    model = load(folder)
    assert (model.config.vocab_size, model.tokenizer.vocab_size) == (rows, 88)
    note = f"the embedding has {rows - 88} more rows than the tokenizer has tokens"
    assert (note in capsys.readouterr().out) == (rows > 215)


def test_too_few_rows(folder):
    edit(folder, "config.json", vocab_size=80)
    tensors = weights(folder)
    tensors["bert.embeddings.word_embeddings.weight"] = np.zeros((80, 24), np.float32)
    tensors["cls.predictions.bias"] = np.zeros(80, np.float32)
    save(folder, tensors)
    with pytest.raises(
        ValueError, match="has only 80 rows, but the tokenizer has 88 ids; the last one is that of 'with'"
    ):
        load(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["bert.encoder.layer.1.output.dense.weight", "cls.predictions.bias", "unread.bias"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_numbers_that_are_not_finite(folder, value, name, dtype):
    tensors = {key: x.astype(dtype) for key, x in weights(folder).items()}
    tensors["unread.bias"] = np.zeros(3, dtype)
    tensors[name].flat[1] = value
    save(folder, tensors)
    message = f"model.safetensors: 1 of the [0-9,]+ numbers of the tensor {name} are NaN or infinite in float32"
    with pytest.raises(ValueError, match=message):
        load(folder)


def test_large_numbers_are_finite(folder):
    tensors = weights(folder)
    tensors["cls.predictions.bias"][:] = 3e38
    save(folder, tensors)
    assert load(folder).has_head


def test_a_flag_that_the_weights_contradict(folder, bert):
    edit(folder, "config.json", tie_word_embeddings=False)
    with pytest.raises(ValueError, match="is false, but the weights have no cls.predictions.decoder.weight"):
        load(folder)
    tensors = weights(folder)
    tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].copy()
    save(folder, tensors)
    assert_same(load(folder).params, bert.params)
    tensors["cls.predictions.decoder.weight"][0, 0] += 1
    save(folder, tensors)
    with pytest.raises(
        ValueError, match=r"cls.predictions.decoder.weight differs from bert.embeddings.word_emb.* tied"
    ):
        load(folder)
    # Another head has no output layer over the vocabulary.
    assert not load_pretrained(Pretrained(str(folder)), head="question_answering").has_head


@pytest.mark.parametrize("name, ours", [("gelu_python", "gelu"), ("gelu_fast", "gelu_tanh")])
def test_other_names_of_an_activation(folder, name, ours):
    edit(folder, "config.json", hidden_act=name)
    assert load(folder).config.activation == ours


def test_the_public_name_does_not_say_where_a_model_is(bert, bert_folder):
    assert bert.public_name == f"bert (SHA-256 {bert.sha256[:12]})"
    assert dataclasses.replace(bert, hub_id="org/tiny").public_name == "org/tiny"


def test_the_real_teacher():
    teacher = load(shared("teachers/minilm-l6-h384-mlm"), family="bert")
    assert teacher.has_head
    assert round(sum(x.size for x in jax.tree.leaves(teacher.params)) / 1e6, 1) == 22.7
