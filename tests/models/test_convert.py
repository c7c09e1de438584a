"""Tests the conversion of checkpoints in both directions, and that no tensor is lost without a report."""

import jax
import numpy as np
import pytest
import safetensors.numpy

from distilbert_jax.hub.load import parameter_shapes
from distilbert_jax.models import convert
from distilbert_jax.models.families import bert, distilbert
from tests.conftest import tiny_config
from tests.helpers.batches import assert_same

FAMILIES = {"bert": bert, "distilbert": distilbert}


@pytest.fixture(params=FAMILIES)
def case(request):
    """Returns (family, config, tensors of a checkpoint)."""
    family = FAMILIES[request.param]
    config = tiny_config(num_token_types=2 if family is bert else 0)
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda x: random.normal(size=x.shape).astype(np.float32), parameter_shapes(config))
    return family, config, convert.to_hub(family, config, params, head="masked_lm")


def load(family, config, tensors):
    return convert.from_hub(family, config, tensors, head="masked_lm", like=parameter_shapes(config))


def test_round_trip(case):
    family, config, tensors = case
    loaded = load(family, config, tensors)
    assert loaded.has_head
    assert loaded.unused == ()
    assert_same(convert.to_hub(family, config, loaded.params, head="masked_lm"), tensors)


def test_gamma_and_beta(case):
    family, config, tensors = case
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): x
        for name, x in tensors.items()
    }
    assert old.keys() != tensors.keys()
    assert_same(load(family, config, old).params, load(family, config, tensors).params)


def test_without_prefix_and_head(case):
    family, config, tensors = case
    bare = {name.removeprefix(family.PREFIX): x for name, x in tensors.items() if name.startswith(family.PREFIX)}
    loaded = load(family, config, bare)
    assert not loaded.has_head
    assert_same(loaded.params["encoder"], load(family, config, tensors).params["encoder"])
    assert list(loaded.params) == ["encoder"]


def test_tied_weights_are_compared(case):
    family, config, tensors = case
    name, original = next(iter(family.TIED.items()))
    assert_same(load(family, config, tensors | {name: tensors[original]}).params, load(family, config, tensors).params)
    with pytest.raises(ValueError, match=f"{name} differs from {original}"):
        load(family, config, tensors | {name: tensors[original] + 1e-6})


def test_a_bias_that_has_the_name_of_the_tied_one_only(case):
    if case[0] is not bert:
        pytest.skip("only BERT ties its bias")
    family, config, tensors = case
    moved = {name.replace("cls.predictions.bias", "cls.predictions.decoder.bias"): x for name, x in tensors.items()}
    assert_same(load(family, config, moved).params, load(family, config, tensors).params)


def test_two_biases_that_differ_are_called_biases():
    config = tiny_config()
    shapes = parameter_shapes(config)
    params = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), shapes)
    tensors = convert.to_hub(bert, config, params, head="masked_lm")
    tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"] + 1
    with pytest.raises(ValueError, match="the two output biases cls.predictions.decoder.bias and cls.predictions.bias"):
        load(bert, config, tensors)


def test_buffers_and_other_heads(case):
    family, config, tensors = case
    more = {family.BUFFERS[0]: np.arange(4), f"{family.OTHER_HEADS[0]}weight": np.zeros(3)}
    assert load(family, config, tensors | more).unused == (f"{family.OTHER_HEADS[0]}weight",)


def test_missing_partial_unknown_and_misshapen_are_errors(case):
    family, config, tensors = case
    encoder_name = next(name for name in tensors if "layer.0" in name and name.endswith("weight"))
    head_name = next(iter(family.HEADS["masked_lm"]))

    def without(name):
        return {k: v for k, v in tensors.items() if k != name}

    with pytest.raises(ValueError, match=f"1 tensor is missing from the encoder: {encoder_name}"):
        load(family, config, without(encoder_name))
    with pytest.raises(
        ValueError, match=f"missing from the masked_lm head, which has only some of its tensors: {head_name}"
    ):
        load(family, config, without(head_name))
    with pytest.raises(ValueError, match="unknown to this family.*: surprise.weight"):
        load(family, config, tensors | {"surprise.weight": np.zeros(1)})
    with pytest.raises(ValueError, match=rf"tensor {encoder_name} has shape \(3, 2\), but config.json asks for"):
        load(family, config, tensors | {encoder_name: np.zeros((3, 2), np.float32)})


def test_the_exported_file_has_the_tensors_of_the_release(distilbert_folder):
    """DistilBERT has 105 tensors, 16 in each of six layers; this one has four layers. The tied weight is left out."""
    names = safetensors.numpy.load_file(distilbert_folder / "model.safetensors").keys()
    assert len(names) == 105 - 2 * 16
    assert "vocab_projector.weight" not in names
    assert "vocab_projector.bias" in names
