"""Both families against transformers: every hidden state, the logits, the gradients; and what each classic mistake
would have cost.
"""

import dataclasses
import functools
import pathlib
import re
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.heads.masked_lm import MaskedLM
from distilbert_jax.hub import load
from distilbert_jax.losses.hard_targets import HardTargets
from distilbert_jax.models import convert
from tests.torch.models import EVERY, SHAPES, batch_of, has_token_types, random_model, text, torch, write

FAMILIES = tuple(SHAPES)
DOCS = pathlib.Path(__file__).parents[2] / "docs" / "parity.md"


@functools.cache
def both(family, gelu="gelu"):
    """(transformers' model, ours)."""
    theirs = random_model(family, **{"activation" if family == "distilbert" else "hidden_act": gelu})
    with tempfile.TemporaryDirectory() as folder:
        return theirs, load.load_pretrained(Pretrained(str(write(theirs, pathlib.Path(folder)))))


def their_outputs(model, ids, mask, types):
    given = {"token_type_ids": torch.tensor(types)} if has_token_types(model) else {}
    with torch.no_grad():
        return model(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask), output_hidden_states=True, **given)


def our_outputs(model, ids, mask, types, **changes):
    config = dataclasses.replace(model.config, **changes)
    params = jax.tree.map(jnp.asarray, model.params)
    return jax.jit(MaskedLM(config).apply)({"params": params}, batch_of(ids, mask, types))


def answers(family, *, hub_activation="gelu", pairs=False, mistake=None, **changes):
    """(ours, theirs) at real places: the logits, then every hidden state. `changes` go into our config."""
    theirs, ours = both(family, hub_activation)
    ids, mask, types = text(pairs=pairs)
    wanted = their_outputs(theirs, ids, mask, types)
    got = our_outputs(
        ours,
        ids,
        mask if mistake != "no mask" else np.ones_like(mask),
        types * (mistake != "no token types"),
        **changes,
    )
    real = mask.astype(bool)
    both_sides = [(got.logits.to_dense(), wanted.logits), *zip(got.hidden_states, wanted.hidden_states, strict=True)]
    return [(np.asarray(a)[real], b.numpy()[real]) for a, b in both_sides]


def in_tolerances(family, **changes):
    """The largest |ours − theirs| / (5e-6 + 1e-5 |theirs|): at most 1 passes."""

    def off(a, b):
        return np.abs(a - b) / (EVERY["atol"] + EVERY["rtol"] * np.abs(b))

    return max(float(off(a, b).max()) for a, b in answers(family, **changes))


@pytest.mark.parametrize(
    "activation", ["gelu", "gelu_python", "gelu_new", "gelu_python_tanh", "gelu_accurate", "gelu_fast"]
)
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_and_every_hidden_state(family, activation):
    assert in_tolerances(family, hub_activation=activation) <= 1


def test_pairs_of_texts():
    assert in_tolerances("bert", pairs=True) <= 1


NO_TYPES = "token types left out"
MISTAKES = {
    "the other GELU": dict(activation="gelu_tanh"),
    "LayerNorm ε 1e-5": dict(norm_eps=1e-5),
    "padding attended to": dict(mistake="no mask"),
    NO_TYPES: dict(mistake="no token types", pairs=True),
}


CASES = [
    (family, name)
    for family in FAMILIES
    for name in MISTAKES
    if name != NO_TYPES or "type_vocab_size" in SHAPES[family]
]


@pytest.mark.parametrize(("family", "name"), CASES)
def test_classic_mistakes_would_be_seen(family, name):
    off = in_tolerances(family, **MISTAKES[name])
    assert off > 10, f"only {off:.1f} times the tolerance"


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_the_masked_word_loss(family):
    theirs, ours = both(family)
    ids, mask, types = text()
    labels = torch.tensor(np.where(mask, ids, -100))
    theirs.zero_grad()
    given = {"token_type_ids": torch.tensor(types)} if has_token_types(theirs) else {}
    loss = theirs(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask), labels=labels, **given).loss
    loss.backward()
    batch = batch_of(ids, mask, types)

    def ours_loss(params):
        z = MaskedLM(ours.config).apply({"params": params}, batch).logits.to_dense()
        return (
            jnp.sum(HardTargets().values_from_logits(z, None, batch.labels) * batch.token_mask) / batch.token_mask.sum()
        )

    value, gradient = jax.jit(jax.value_and_grad(ours_loss))(jax.tree.map(jnp.asarray, ours.params))
    np.testing.assert_allclose(value, loss.item(), rtol=1e-5)
    named = dict(theirs.named_parameters())
    for name, ours_gradient in convert.to_hub(ours.family, ours.config, gradient, head="masked_lm").items():
        wanted = named[name].grad.numpy()
        assert np.abs(ours_gradient - wanted).max() <= 2e-5 * max(np.abs(wanted).max(), 1e-3), name


def test_the_figures_in_docs(prove):
    """docs/parity.md, which `make prove` writes; otherwise it must name what is measured."""
    lines = [
        "# Parity with transformers",
        "",
        "Tiny models with every tensor random, float32 on a CPU, rows of unequal length. Written by `make prove`.",
        f"The tolerance is {EVERY['atol']:g} + {EVERY['rtol']:g} · |theirs|.",
        "",
        "| family | largest difference of the logits | of the hidden states | in tolerances |",
        "|---|---|---|---|",
    ]
    for family in FAMILIES:
        logits, *hidden = [np.abs(a - b).max() for a, b in answers(family)]
        lines.append(f"| {family} | {logits:.1e} | {max(hidden):.1e} | {in_tolerances(family):.2f} |")
    lines += ["", "What each classic mistake costs, which the tests demand to be more than 10 tolerances:", ""]
    lines += ["| family | mistake | in tolerances |", "|---|---|---|"]
    lines += [f"| {family} | {name} | {in_tolerances(family, **MISTAKES[name]):,.0f} |" for family, name in CASES]
    if prove:
        DOCS.write_text("\n".join(lines) + "\n")

    def without_figures(text):
        return re.sub(r"\d[\d.,e-]*", "#", text)

    assert without_figures(DOCS.read_text()) == without_figures("\n".join(lines) + "\n")
