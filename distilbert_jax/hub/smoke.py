"""Any experiment made tiny: a random teacher, a tokenizer of a hundred words and a page of text, written to disk and
read by the real path.
"""

import dataclasses
import pathlib

import jax
import numpy as np
import tokenizers

from distilbert_jax.config.experiment import Experiment, Pretrained
from distilbert_jax.data.shards.prepare import Corpus
from distilbert_jax.data.sources.files import Files
from distilbert_jax.data.tokenizer import tokenizer as tokens
from distilbert_jax.hub import load, save
from distilbert_jax.models.families import get_family
from distilbert_jax.models.transformer import HeadConfig, TransformerConfig

WORDS = [
    *("a", "an", "and", "bird", "by", "cat", "dog", "eats", "far", "from", "green", "has", "he", "in", "it", "near"),
    *("of", "old", "on", "red", "runs", "sees", "she", "sleeps", "small", "stone", "the", "to", "tree", "was", "with"),
]
ROW = 64


def smoke(experiment: Experiment, folder: pathlib.Path) -> Experiment:
    """The same losses, layers and optimizer on a model of a few thousand weights, for four steps; everything it writes
    is under `folder`.

    Shows that an experiment runs, in seconds; says nothing of its quality.
    """
    tokenizer = tiny_tokenizer()
    models = {
        where: wanted
        for where, wanted in (("teacher", experiment.teacher), ("start", experiment.student.start))
        if wanted
    }
    made = {}
    for seed, (where, wanted) in enumerate(models.items()):
        stated = wanted.shape
        layers = (
            stated.num_layers
            if stated
            else 1 + max(experiment.student.layers if experiment.student.layers != "all" else [1])
        )
        cfg = TransformerConfig(
            vocab_size=tokenizer.size,
            hidden_size=24,
            num_layers=layers,
            num_heads=4,
            mlp_size=48,
            max_tokens=ROW,
            num_token_types=0 if wanted.family == "distilbert" else 2,
            dropout=0.1,
            attention_dropout=0.1,
            projection_dropout=0.0 if wanted.family == "distilbert" else 0.1,
        )
        tiny_model(folder / where, cfg, tokenizer=tokenizer, family=wanted.family or "bert", seed=seed)
        made[where] = Pretrained(str(folder / where), family=wanted.family)
    text = folder / "corpus.txt"
    text.write_text(tiny_text(documents=200, seed=0), encoding="utf-8")
    return dataclasses.replace(
        experiment,
        teacher=made.get("teacher"),
        student=dataclasses.replace(experiment.student, start=made.get("start")),
        corpus=Corpus(sources={"tiny": Files(str(text))}, folder=str(folder / "shards"), row_length=ROW, held_out=0.2),
        steps=4,
        global_batch=16,
        rows_per_device=4,
        eval_rows=16,
        eval_every=2,
        checkpoint_every=2,
        log_every=1,
        workdir=str(folder / "run"),
    )


def tiny_tokenizer() -> tokens.Tokenizer:
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    words = [*tokens.ROLES.values(), ".", *letters, *(f"##{x}" for x in letters), *(w for w in WORDS if len(w) > 1)]
    built = tokenizers.BertWordPieceTokenizer(vocab={word: i for i, word in enumerate(words)}, lowercase=True)
    backend = tokens.parse(built.to_str(), where="the tiny tokenizer")
    return tokens.Tokenizer(backend=backend, **{role: words.index(word) for role, word in tokens.ROLES.items()})


def tiny_text(*, documents: int, seed: int) -> str:
    """Documents of a few random sentences."""
    random = np.random.default_rng(seed)
    sentence = lambda: " ".join(random.choice(WORDS, random.integers(4, 12))) + "."
    return "\n\n".join("\n".join(sentence() for _ in range(random.integers(2, 9))) for _ in range(documents))


def tiny_model(
    folder: pathlib.Path,
    cfg: TransformerConfig,
    *,
    tokenizer: tokens.Tokenizer,
    family: str,
    seed: int,
    head: str = "masked_lm",
) -> None:
    """A Hub folder of random weights; a head of classes or tags has two of them."""
    random = np.random.default_rng(seed)
    head_cfg = HeadConfig(labels=("no", "yes") if head.endswith("classification") else ())
    shapes = load.parameter_shapes(cfg, head, head_cfg)
    params = jax.tree.map(lambda x: random.normal(0.0, 0.1, x.shape).astype(np.float32), shapes)
    save.write(
        folder,
        family=get_family(family),
        cfg=cfg,
        params=params,
        tokenizer=tokenizer,
        card="Random weights, for trying things out.\n",
        head=head,
        head_cfg=head_cfg,
    )
