"""Makes a tiny version of an experiment for --smoke, and tiny models and texts for tests.

The tiny models, tokenizer and text are written to disk and loaded by the same code as real ones.
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
from distilbert_jax.io.files import expand_path
from distilbert_jax.io.folder_marker import check_owner, write_marker
from distilbert_jax.models.families import get_family
from distilbert_jax.models.transformer import HeadConfig, TransformerConfig

TINY_WORDS = [
    *("a", "an", "and", "bird", "by", "cat", "dog", "eats", "far", "from", "green", "has", "he", "in", "it", "near"),
    *("of", "old", "on", "red", "runs", "sees", "she", "sleeps", "small", "stone", "the", "to", "tree", "was", "with"),
]
TINY_SEQUENCE_LENGTH = 64


def make_smoke_experiment(experiment: Experiment, folder: pathlib.Path) -> Experiment:
    """Returns the experiment with tiny models and a tiny corpus, for four steps.

    Losses, layers and optimizer stay the same. The run shows within seconds that an experiment works, but nothing about
    its quality.

    Args:
        experiment: the experiment.
        folder: the folder to which models, text and run are written.

    Raises:
        ValueError: the folder has files that this function did not write.
    """
    folder = expand_path(folder)
    check_owner(folder, "distill --smoke", setting="--smoke FOLDER")
    write_marker(folder, "distill --smoke")
    tokenizer = make_tiny_tokenizer()
    sources = {
        role: source
        for role, source in (("teacher", experiment.teacher), ("start", experiment.student.init_from))
        if source
    }
    tiny_sources = {}
    for seed, (role, source) in enumerate(sources.items()):
        # If the experiment does not state the number of layers, take as many as the student copies.
        if source.config:
            num_layers = source.config.num_layers
        else:
            num_layers = 1 + max(experiment.student.layers if experiment.student.layers != "all" else [1])
        config = TransformerConfig(
            vocab_size=tokenizer.vocab_size,
            hidden_size=24,
            num_layers=num_layers,
            num_heads=4,
            mlp_size=48,
            max_positions=TINY_SEQUENCE_LENGTH,
            num_token_types=0 if source.family == "distilbert" else 2,
            dropout=0.1,
            attention_dropout=0.1,
            attention_output_dropout=0.0 if source.family == "distilbert" else 0.1,
        )
        save_tiny_model(folder / role, config, tokenizer=tokenizer, family=source.family or "bert", seed=seed)
        tiny_sources[role] = Pretrained(str(folder / role), family=source.family)
    text = folder / "corpus.txt"
    text.write_text(make_tiny_text(documents=200, seed=0), encoding="utf-8")
    return dataclasses.replace(
        experiment,
        teacher=tiny_sources.get("teacher"),
        student=dataclasses.replace(experiment.student, init_from=tiny_sources.get("start")),
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
    """Returns a WordPiece tokenizer with the special tokens, the letters and the words of `TINY_WORDS`."""
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    words = [
        *tokens.SPECIAL_TOKENS.values(),
        ".",
        *letters,
        *(f"##{x}" for x in letters),
        *(w for w in TINY_WORDS if len(w) > 1),
    ]
    wordpiece = tokenizers.BertWordPieceTokenizer(vocab={word: i for i, word in enumerate(words)}, lowercase=True)
    backend = tokens.parse_tokenizer(wordpiece.to_str(), where="the tiny tokenizer")
    return tokens.Tokenizer(
        backend=backend, **{f"{role}_id": words.index(word) for role, word in tokens.SPECIAL_TOKENS.items()}
    )


def make_tiny_text(*, documents: int, seed: int) -> str:
    """Returns documents of a few random sentences, with an empty line between two documents."""
    random = np.random.default_rng(seed)

    def make_sentence() -> str:
        return " ".join(random.choice(TINY_WORDS, random.integers(4, 12))) + "."

    return "\n\n".join("\n".join(make_sentence() for _ in range(random.integers(2, 9))) for _ in range(documents))


def save_tiny_model(
    folder: pathlib.Path,
    config: TransformerConfig,
    *,
    tokenizer: tokens.Tokenizer,
    family: str,
    seed: int,
    head: str = "masked_lm",
) -> None:
    """Writes a Hub folder with random weights. A classification head gets the labels "no" and "yes".

    Args:
        folder: the folder to write.
        config: the config of the encoder.
        tokenizer: the tokenizer of the model.
        family: the name of a file in models/families/.
        seed: the seed of the weights.
        head: the name of a file in heads/.
    """
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
        card="This model has random weights. It is only meant for tests.\n",
        head=head,
        head_config=head_config,
    )
