"""A tenth of the training examples is held out, the same one whatever their order, and equal texts stay together."""

import random

import pytest

from distilbert_jax.data.tasks import registry
from distilbert_jax.data.tasks.examples import Example
from distilbert_jax.data.tasks.held_out_dev import hold_out_dev

EXAMPLES = [Example(id=str(i), texts=(f"text {i % 150}",), label=i % 2) for i in range(200)]


def test_a_tenth_is_held_out():
    read = hold_out_dev({"train": EXAMPLES, "test": EXAMPLES[:3]}.__getitem__)
    train, dev = read("train"), read("dev")
    assert sorted(train + dev, key=lambda example: int(example.id)) == EXAMPLES
    assert 20 <= len(dev) <= 21  # the last of them may have an equal text
    assert not {example.texts for example in train} & {example.texts for example in dev}
    assert read("test") == EXAMPLES[:3]


def test_the_order_does_not_matter():
    shuffled = random.Random(0).sample(EXAMPLES, len(EXAMPLES))
    first, second = (hold_out_dev(lambda split, these=these: these)("dev") for these in (EXAMPLES, shuffled))
    assert {example.id for example in first} == {example.id for example in second}


def test_too_few_examples():
    with pytest.raises(ValueError, match="none of the 1 examples would remain to train on"):
        hold_out_dev(lambda split: EXAMPLES[:1])("train")


def test_the_test_split_of_imdb_does_not_choose_the_epoch(tmp_path):
    for split in ("train", "test"):
        for label in ("neg", "pos"):
            folder = tmp_path / split / label
            folder.mkdir(parents=True)
            for number in range(20):
                (folder / f"{number}.txt").write_text(f"{split} {label} {number}")
    task = registry.find_task("imdb", tmp_path)
    assert (task.dev, task.test) == (("dev",), ("test",))
    assert (len(task.read("train")), len(task.read("dev")), len(task.read("test"))) == (36, 4, 40)
    assert all(example.texts[0].startswith("train") for example in task.read("dev"))
