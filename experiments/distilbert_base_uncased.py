"""DistilBERT from BERT-base, as it was released (Sanh et al., 2019, https://arxiv.org/abs/1910.01108).

    python -m distilbert_jax distill experiments/distilbert_base_uncased.py workdir=runs/distilbert

Losses 5 / 2 / 1 at T = 2, layers 0, 2, 4, 7, 9, 11, AdamW 5e-4 with 5 % warm-up, 2,048 rows of 512 tokens an update.
Not run here yet: by arithmetic 8e18 operations, some six hours of one H200 at 40 % of its bfloat16 peak. The paper's
student has a GLUE dev mean of 77.0 (its teacher 79.5), WNLI included.

The corpus is not the paper's. Its Wikipedia of 2018 (2.5 thousand million words) is replaced by that of November 2023
(20.2 GB, some 3.3 at the 6.16 bytes a word of a sample), and the Toronto Book Corpus (0.8), which can no longer be had,
by PG-19 (28,602 books from before 1919, 11.4 GB, 2.0): 5.3 thousand million words instead of 3.3. The number of updates
is that of three epochs over 3.3.
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
