"""Distils DistilBERT from BERT-base, as it was released (Sanh et al., 2019, https://arxiv.org/abs/1910.01108).

    python -m distilbert_jax distill experiments/distilbert_base_uncased.py workdir=runs/distilbert

The weights of the soft, hard and cosine losses are 5, 2 and 1, at temperature 2. The student starts from layers 0, 2,
4, 7, 9 and 11. The optimizer is AdamW with a learning rate of 5e-4 and 5 % warm-up. An update has 2,048 rows of 512
tokens.

Cost: this experiment has not been run yet. It needs 8e18 floating point operations, which is an estimated six hours of
one H200 GPU at 40 % of its bfloat16 peak.
Expected result: the student of the paper has a mean of 77.0 on the GLUE dev sets, WNLI included, and its teacher 79.5.

The corpus differs from that of the paper, which has 3.3 billion words. The Wikipedia of 2018 (2.5 billion words) is
replaced by that of November 2023 (20.2 GB, about 3.3 billion words at the 6.16 bytes per word of a sample). The Toronto
Book Corpus (0.8 billion words) is no longer available and is replaced by PG-19 (28,602 books from before 1919, 11.4 GB,
2.0 billion words). This corpus therefore has 5.3 billion words. The number of updates is that of three epochs over 3.3
billion words. docs/differences.md lists all differences from the released code.
"""

from distilbert_jax.config.experiment import Experiment, Pretrained, Student
from distilbert_jax.data.shards.prepare import Corpus
from distilbert_jax.data.sources.hub import HubDataset
from distilbert_jax.losses.hard_targets import HardTargets
from distilbert_jax.losses.hidden_cosine import HiddenCosine
from distilbert_jax.losses.soft_targets import SoftTargets
from distilbert_jax.models.families import bert
from distilbert_jax.optimizer import AdamW

WIKIPEDIA = HubDataset(
    "wikimedia/wikipedia", configuration="20231101.en", revision="b04c8d1ceb2f5cd4588862100d08de323dccfbaa"
)


def experiment() -> Experiment:
    """Returns the experiment."""
    return Experiment(
        name="distilbert-base-uncased",
        teacher=Pretrained("google-bert/bert-base-uncased", family="bert", config=bert.BASE),
        student=Student(layers=(0, 2, 4, 7, 9, 11)),
        corpus=Corpus(
            sources={"wikipedia": WIKIPEDIA, "books": HubDataset("emozilla/pg19")},
            shard_dir="data/wikipedia-books-512",
            sequence_length=512,
            held_out=0.0005,
        ),
        losses={
            "soft": SoftTargets(weight=5.0, temperature=2.0),
            "hard": HardTargets(weight=2.0),
            "cosine": HiddenCosine(weight=1.0),
        },
        optimizer=AdamW(learning_rate=5e-4, warmup_ratio=0.05),
        steps=12_300,
        global_batch_size=2_048,
        dtype="bfloat16",
    )
