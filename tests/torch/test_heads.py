"""Every head of both families against transformers: logits, losses, gradients; read from their folders, and written so
that they load them without a word.
"""

import dataclasses
import functools
import json
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.data.masking import compute_positions
from distilbert_jax.hub import load
from distilbert_jax.hub import save as hub_write
from distilbert_jax.losses import base
from distilbert_jax.losses.hard_targets import HardTargets
from distilbert_jax.losses.multi_label import MultiLabel
from distilbert_jax.losses.regression_mse import RegressionMSE
from distilbert_jax.models import convert
from distilbert_jax.types import Batch
from tests.torch.models import EVERY, random_model, text, torch, transformers, write

FAMILIES = ("bert", "distilbert")
AUTO = {
    "sequence_classification": transformers.AutoModelForSequenceClassification,
    "token_classification": transformers.AutoModelForTokenClassification,
    "question_answering": transformers.AutoModelForQuestionAnswering,
    "multiple_choice": transformers.AutoModelForMultipleChoice,
}
LABELS = {"0": "no", "1": "maybe", "2": "yes"}
CHOICES = 3
CASES = {  # name: (head, changes of the config, our loss)
    "one class": ("sequence_classification", dict(problem_type="single_label_classification"), HardTargets()),
    "several classes": ("sequence_classification", dict(problem_type="multi_label_classification"), MultiLabel()),
    "a number": ("sequence_classification", dict(problem_type="regression", id2label={"0": "score"}), RegressionMSE()),
    "tags": ("token_classification", {}, HardTargets()),
    "a span": ("question_answering", dict(id2label={"0": "start", "1": "end"}), HardTargets()),
    "a choice": ("multiple_choice", {}, HardTargets()),
}
EVERY_CASE = [(family, case) for family in FAMILIES for case in CASES]


@functools.cache
def both(family, case):
    """(transformers' model with every tensor random, ours, read from its folder)."""
    head, changes, _ = CASES[case]
    labels = changes.get("id2label", LABELS)
    named = {"id2label": labels, "label2id": {name: int(i) for i, name in labels.items()}}
    theirs = random_model(family, AUTO[head], **{**changes, **named})
    with tempfile.TemporaryDirectory() as folder:
        return theirs, load.load_pretrained(Pretrained(str(write(theirs, pathlib.Path(folder)))), head=head)


def labels_of(case, b, t):
    random = np.random.default_rng(2)
    return {
        "one class": random.integers(0, 3, b),
        "several classes": random.integers(0, 2, (b, 3)).astype(np.float32),
        "a number": random.normal(size=b).astype(np.float32),
        "tags": random.integers(0, 3, (b, t)),
        "a span": random.integers(0, 5, (b, 2)),
        "a choice": random.integers(0, CHOICES, b),
    }[case]


def their_answer(family, case):
    """(logits as [b p v], loss) of transformers; its gradients are left in the model."""
    theirs, _ = both(family, case)
    ids, mask, types = given(case)
    labels = labels_of(case, *ids.shape[:2])
    inputs = dict(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask))
    if family == "bert":
        inputs["token_type_ids"] = torch.tensor(types)
    if case == "a span":
        inputs |= dict(start_positions=torch.tensor(labels[:, 0]), end_positions=torch.tensor(labels[:, 1]))
    elif case == "tags":
        inputs["labels"] = torch.tensor(np.where(mask, labels, -100))
    else:
        inputs["labels"] = torch.tensor(labels)
    theirs.zero_grad()
    out = theirs(**inputs)
    out.loss.backward()
    if case == "a span":
        return torch.stack([out.start_logits, out.end_logits], 1).detach().numpy(), out.loss.item()
    logits = out.logits.detach().numpy()
    return logits if case == "tags" else logits[:, None], out.loss.item()


def given(case):
    """(ids, mask, token types): [b t], or [b c t] for choices. No padding for spans: transformers counts it among the
    places where an answer may be.
    """
    if case == "a span":
        ids, mask, types = (np.repeat(x[:1], 3, 0) for x in text(pairs=True))
        return (ids + np.arange(3)[:, None]) % 60 + 5, mask, types
    if case != "a choice":
        return text(pairs=True)
    made = [text(b=3, t=12, pairs=True)] * CHOICES
    ids, mask, types = (np.stack(parts, 1) for parts in zip(*made, strict=True))
    ids = np.where(mask, (ids + 7 * np.arange(CHOICES)[None, :, None]) % 60 + 5, 0)
    return ids, mask, types


def our_batch(case):
    ids, mask, types = given(case)
    labels = labels_of(case, *ids.shape[:2])
    b, t = ids.shape[0], ids.shape[-1]
    segments = mask if case != "a choice" else mask * np.arange(1, CHOICES + 1)[None, :, None]
    ids, segments, types = (jnp.asarray(x.reshape(b, -1)) for x in (ids, segments, types))
    at = {
        "tags": np.broadcast_to(np.arange(t), (b, t)),
        "a choice": np.broadcast_to(t * np.arange(CHOICES), (b, CHOICES)),
    }.get(case, np.zeros((b, 1), int))
    labels = labels if case in ("tags", "a span") else labels[:, None]
    weights = jnp.asarray(mask if case == "tags" else np.ones(labels.shape[:2]), jnp.float32)
    return Batch(
        row_ids=ids[:, 0],
        epochs=ids[:, 0],
        tokens=ids,
        segment_ids=segments,
        positions=compute_positions(segments),
        token_types=types,
        predict_positions=jnp.asarray(at),
        prediction_weights=weights,
        label_weights=weights,
        labels=jnp.asarray(labels),
    )


def our_answer(model, case, batch, **changes):
    """(scores, loss, gradients)."""
    module = dataclasses.replace(model, **changes).module
    loss = CASES[case][2]

    def objective(params):
        outputs = module.apply({"params": params}, batch)
        sums = base.sum_weights({"hard": loss}, jax.tree.map(lambda x: x[None], batch))
        value, _ = base.total_loss({"hard": loss}, {}, {"hard": {}}, outputs, {}, sums)
        return value, outputs.logits

    params = jax.tree.map(jnp.asarray, model.params)
    (value, scores), gradients = jax.jit(jax.value_and_grad(objective, has_aux=True))(params)
    return np.asarray(scores), float(value), gradients


def real_scores(case, scores):
    """Where a score means anything: not at padding."""
    _, mask, _ = given(case)
    return scores[mask.astype(bool)] if case == "tags" else scores


@pytest.mark.parametrize(("family", "case"), EVERY_CASE)
def test_logits_loss_and_gradients(family, case):
    wanted, wanted_loss = their_answer(family, case)
    theirs, ours = both(family, case)
    scores, loss, gradients = our_answer(ours, case, our_batch(case))
    np.testing.assert_allclose(real_scores(case, scores), real_scores(case, wanted), **EVERY)
    np.testing.assert_allclose(loss, wanted_loss, rtol=1e-5)
    named = dict(theirs.named_parameters())
    for name, gradient in convert.to_hub(ours.family, ours.config, gradients, head=ours.head).items():
        np.testing.assert_allclose(gradient, named[name].grad.numpy(), err_msg=name, **EVERY)


def off(family, case, **changes):
    """How many tolerances a mistake costs."""
    wanted, _ = their_answer(family, case)
    _, ours = both(family, case)
    batch = our_batch(case)
    if "batch" in changes:
        batch = changes.pop("batch")(batch)
    head_config = dataclasses.replace(ours.head_config, **changes)
    a, b = (real_scores(case, x) for x in (our_answer(ours, case, batch, head_config=head_config)[0], wanted))
    return (np.abs(a - b) / (EVERY["atol"] + EVERY["rtol"] * np.abs(b))).max()


MISTAKES = {
    "bert's summary with relu": ("bert", "one class", dict(pooler_activation="relu")),
    "distilbert's summary with tanh": ("distilbert", "one class", dict(pooler_activation="tanh")),
    "the summary of another token": (
        "distilbert",
        "one class",
        dict(batch=lambda batch: dataclasses.replace(batch, predict_positions=batch.predict_positions + 1)),
    ),
    "choices that see each other": (
        "distilbert",
        "a choice",
        dict(batch=lambda batch: dataclasses.replace(batch, segment_ids=(batch.segment_ids > 0).astype(int))),
    ),
    "positions that run on over the choices": (
        "bert",
        "a choice",
        dict(
            batch=lambda batch: dataclasses.replace(
                batch, positions=jnp.broadcast_to(jnp.arange(batch.tokens.shape[1]), batch.tokens.shape)
            )
        ),
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_classic_mistakes_would_be_seen(name):
    family, case, changes = MISTAKES[name]
    assert off(family, case) <= 1
    assert off(family, case, **changes) > 10


@pytest.mark.parametrize(("family", "case"), EVERY_CASE)
def test_transformers_loads_what_we_write(family, case, tmp_path):
    theirs, ours = both(family, case)
    hub_write.save_pretrained(
        tmp_path / "model",
        family=ours.family,
        config=ours.config,
        params=ours.params,
        tokenizer=ours.tokenizer,
        card="",
        head=ours.head,
        head_config=ours.head_config,
    )
    loaded, info = AUTO[ours.head].from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(info.values()), info
    assert type(loaded) is type(theirs)
    for name, parameter in theirs.named_parameters():
        assert torch.equal(parameter, dict(loaded.named_parameters())[name]), name
    if ours.head.endswith("classification"):
        assert loaded.config.id2label == theirs.config.id2label
        assert loaded.config.label2id == theirs.config.label2id
        assert loaded.config.problem_type == theirs.config.problem_type
    again = load.load_pretrained(Pretrained(str(tmp_path / "model")), head=ours.head)
    assert again.head_config == ours.head_config
    assert again.has_head


@pytest.mark.parametrize("family", FAMILIES)
def test_a_masked_word_model_has_no_such_head_yet(family, tmp_path, bert_folder, distilbert_folder):
    folder = {"bert": bert_folder, "distilbert": distilbert_folder}[family]
    model = load.load_pretrained(Pretrained(str(folder)), head="question_answering")
    assert not model.has_head
    assert set(model.params) == {"encoder"}


def test_a_pretrained_pooler_comes_along(tmp_path):
    """BERT's own checkpoint has a pooler and no classifier: the one is kept, the other is new."""
    theirs, _ = both("bert", "one class")
    folder = write(theirs.bert, tmp_path)
    model = load.load_pretrained(Pretrained(str(folder)), head="sequence_classification")
    assert not model.has_head
    assert set(model.params) == {"encoder", "summary"}
    assert load.load_pretrained(Pretrained(str(folder)), head="token_classification").params.keys() == {"encoder"}


def test_labels_that_skip_a_number(tmp_path):
    theirs, _ = both("distilbert", "one class")
    folder = write(theirs, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {"0": "no", "2": "yes"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="id2label must number its 2 labels from 0 to 1, but the numbers are 0, 2"):
        load.load_pretrained(Pretrained(str(folder)), head="sequence_classification")
    with pytest.raises(
        ValueError, match="there is no head 'summarization'; choose one of masked_lm, sequence_classification"
    ):
        load.load_pretrained(Pretrained(str(folder)), head="summarization")
