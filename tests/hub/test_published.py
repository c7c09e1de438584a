"""Published models against their published figures: `make verify-hub`. It needs the network, and is skipped without."""

import numpy as np
import pytest

from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.data.tasks import registry
from distilbert_jax.evaluate.task import evaluate
from distilbert_jax.hub.load import PretrainedModel, load_pretrained
from distilbert_jax.types import Batch

BASE = "distilbert/distilbert-base-uncased"


@pytest.fixture(autouse=True)
def _wanted(pytestconfig):
    if not pytestconfig.getoption("--hub"):
        pytest.skip("needs the network: make verify-hub")


def fetched(name, **how) -> PretrainedModel:
    try:
        return load_pretrained(Pretrained(name), **how)
    except ValueError as error:
        if "cannot be fetched from the Hub" in str(error):
            pytest.skip(str(error))
        raise


def task(name):
    """Of TFDS, which fetches it."""
    try:
        return registry.find_tfds_task(name)
    except Exception as error:  # whatever a download may raise
        pytest.skip(f"{name} cannot be fetched: {error!r}")


def test_the_known_slice():
    """The figures that transformers' own test of this model expects."""
    model = fetched(BASE)
    ids = np.array([[0, 345, 232, 328, 740, 140, 1695, 69, 6078, 1588, 2]])
    segments = (np.arange(11) > 0).astype(int)[None]
    ones, none = np.ones((1, 1)), np.zeros((1, 1), int)
    batch = Batch(
        row_ids=none[0], epochs=none[0], tokens=ids, segment_ids=segments, positions=np.arange(11)[None],
        token_types=0 * ids, predict_positions=none, prediction_weights=ones, label_weights=ones, labels=none,
    )  # fmt: skip
    hidden = model.module.apply({"params": model.params}, batch).hidden_states[-1]
    wanted = [[-0.1639, 0.3299, 0.1648], [-0.1746, 0.3289, 0.1710], [-0.1884, 0.3357, 0.1810]]
    np.testing.assert_allclose(hidden[0, 1:4, 1:4], wanted, atol=1e-4)


@pytest.mark.parametrize("name, parameters", [(BASE, 66_985_530), ("distilbert/distilbert-base-cased", 65_190_912)])
def test_sizes_of_files(name, parameters):
    """Four bytes a parameter, and a header."""
    model = fetched(name)
    size = (model.folder / "model.safetensors").stat().st_size
    assert 4 * parameters <= size < 4.08 * parameters


@pytest.mark.parametrize(
    "name, task_name, score, wanted",
    [
        ("distilbert/distilbert-base-uncased-finetuned-sst-2-english", "sst2", "accuracy", 91.06),
        ("distilbert/distilbert-base-cased-distilled-squad", "squad", "f1", 87.1),
    ],
)
def test_published_scores(name, task_name, score, wanted, tmp_path):
    fetched(name, head=task(task_name).task_type.head)
    got = evaluate(Pretrained(name), task(task_name), split="dev", output_dir=tmp_path)
    assert got[score] == pytest.approx(wanted, abs=0.2)
