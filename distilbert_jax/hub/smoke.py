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
from distilbert_jax.data.sources.files import TextFiles
from distilbert_jax.data.tokenizer import tokenizer as tokens
from distilbert_jax.hub import load, save
from distilbert_jax.models.families import get_family
from distilbert_jax.models.transformer import HeadConfig, TransformerConfig

TINY_VOCABULARY = [
    *("a", "an", "and", "bird", "by", "cat", "dog", "eats", "far", "from", "green", "has", "he", "in", "it", "near"),
    *("of", "old", "on", "red", "runs", "sees", "she", "sleeps", "small", "stone", "the", "to", "tree", "was", "with"),
]
TINY_SEQUENCE_LENGTH = 64


def make_smoke_experiment(experiment: Experiment, folder: pathlib.Path) -> Experiment:
    """The same losses, layers and optimizer on a model of a few thousand weights, for four steps; everything it writes
    is under `folder`.

    Shows that an experiment runs, in seconds; says nothing of its quality.
    """
    tokenizer = make_tiny_tokenizer()
    models = {
        where: wanted
        for where, wanted in (("teacher", experiment.teacher), ("start", experiment.student.init_from))
        if wanted
    }
    made = {}
    for seed, (where, wanted) in enumerate(models.items()):
        stated = wanted.config
        layers = (
            stated.num_layers
            if stated
            else 1 + max(experiment.student.layers if experiment.student.layers != "all" else [1])
        )
        config = TransformerConfig(
            vocab_size=tokenizer.vocab_size,
            hidden_size=24,
            num_layers=layers,
            num_heads=4,
            mlp_size=48,
            max_positions=TINY_SEQUENCE_LENGTH,
            num_token_types=0 if wanted.family == "distilbert" else 2,
            dropout=0.1,
            attention_dropout=0.1,
            attention_output_dropout=0.0 if wanted.family == "distilbert" else 0.1,
        )
        save_tiny_model(folder / where, config, tokenizer=tokenizer, family=wanted.family or "bert", seed=seed)
        made[where] = Pretrained(str(folder / where), family=wanted.family)
    text = folder / "corpus.txt"
    text.write_text(make_tiny_text(documents=200, seed=0), encoding="utf-8")
    return dataclasses.replace(
        experiment,
        teacher=made.get("teacher"),
        student=dataclasses.replace(experiment.student, init_from=made.get("start")),
        corpus=Corpus(
            sources={"tiny": TextFiles(str(text))},
            shard_dir=str(folder / "shards"),
            sequence_length=TINY_SEQUENCE_LENGTH,
            held_out=0.2,
        ),
        steps=4,
        global_batch_size=16,
        per_device_batch_size=4,
        eval_rows=16,
        eval_every=2,
        checkpoint_every=2,
        log_every=1,
        workdir=str(folder / "run"),
    )


def make_tiny_tokenizer() -> tokens.Tokenizer:
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    words = [
        *tokens.SPECIAL_TOKENS.values(),
        ".",
        *letters,
        *(f"##{x}" for x in letters),
        *(w for w in TINY_VOCABULARY if len(w) > 1),
    ]
    built = tokenizers.BertWordPieceTokenizer(vocab={word: i for i, word in enumerate(words)}, lowercase=True)
    backend = tokens.parse_tokenizer(built.to_str(), where="the tiny tokenizer")
    return tokens.Tokenizer(
        backend=backend, **{f"{role}_id": words.index(word) for role, word in tokens.SPECIAL_TOKENS.items()}
    )


def make_tiny_text(*, documents: int, seed: int) -> str:
    """Documents of a few random sentences."""
    random = np.random.default_rng(seed)
    sentence = lambda: " ".join(random.choice(TINY_VOCABULARY, random.integers(4, 12))) + "."
    return "\n\n".join("\n".join(sentence() for _ in range(random.integers(2, 9))) for _ in range(documents))


def save_tiny_model(
    folder: pathlib.Path,
    config: TransformerConfig,
    *,
    tokenizer: tokens.Tokenizer,
    family: str,
    seed: int,
    head: str = "masked_lm",
) -> None:
    """A Hub folder of random weights; a head of classes or tags has two of them."""
    random = np.random.default_rng(seed)
    head_config = HeadConfig(labels=("no", "yes") if head.endswith("classification") else ())
    shapes = load.parameter_shapes(config, head, head_config)
    params = jax.tree.map(lambda x: random.normal(0.0, 0.1, x.shape).astype(np.float32), shapes)
    save.save_pretrained(
        folder,
        family=get_family(family),
        config=config,
        params=params,
        tokenizer=tokenizer,
        card="Random weights, for trying things out.\n",
        head=head,
        head_config=head_config,
    )
