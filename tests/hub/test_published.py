"""Compares published models with their published figures. `make verify-hub` runs it; it needs the network."""

import numpy as np
import pytest

from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.data.tasks import registry
from distilbert_jax.evaluate.task import evaluate
from distilbert_jax.hub.load import PretrainedModel, load_pretrained
from distilbert_jax.types import Batch

BASE = "distilbert/distilbert-base-uncased"


@pytest.fixture(autouse=True)
def _skip_without_network(pytestconfig):
    if not pytestconfig.getoption("--hub"):
        pytest.skip("needs the network: make verify-hub")


def download_model(name, **head) -> PretrainedModel:
    """Loads a model from the Hub, or skips the test if it cannot be downloaded."""
    try:
        return load_pretrained(Pretrained(name), **head)
    except ValueError as error:
        if "cannot be downloaded from the Hub" in str(error):
            pytest.skip(str(error))
        raise


def download_task(name):
    """Returns a task from TFDS, which downloads it, or skips the test if it cannot be downloaded."""
    try:
        return registry.find_tfds_task(name)
    except Exception as error:  # a download may raise anything
        pytest.skip(f"{name} cannot be downloaded: {error!r}")


def test_known_hidden_states():
    """The numbers are those of the test of this model in transformers."""
    model = download_model(BASE)
    ids = np.array([[0, 345, 232, 328, 740, 140, 1695, 69, 6078, 1588, 2]])
    segments = (np.arange(11) > 0).astype(int)[None]
    ones, zeros = np.ones((1, 1)), np.zeros((1, 1), int)
    batch = Batch(
        row_ids=zeros[0], epochs=zeros[0], tokens=ids, segment_ids=segments, positions=np.arange(11)[None],
        token_types=0 * ids, predict_positions=zeros, prediction_weights=ones, label_weights=ones, labels=zeros,
    )  # fmt: skip
    hidden = model.module.apply({"params": model.params}, batch).hidden_states[-1]
    expected = [[-0.1639, 0.3299, 0.1648], [-0.1746, 0.3289, 0.1710], [-0.1884, 0.3357, 0.1810]]
    np.testing.assert_allclose(hidden[0, 1:4, 1:4], expected, atol=1e-4)


@pytest.mark.parametrize("name, parameters", [(BASE, 66_985_530), ("distilbert/distilbert-base-cased", 65_190_912)])
def test_sizes_of_files(name, parameters):
    """A file has four bytes per parameter, and a header."""
    model = download_model(name)
    size = (model.folder / "model.safetensors").stat().st_size
    assert 4 * parameters <= size < 4.08 * parameters


@pytest.mark.parametrize(
    "name, task_name, metric, expected",
    [
        ("distilbert/distilbert-base-uncased-finetuned-sst-2-english", "sst2", "accuracy", 91.06),
        ("distilbert/distilbert-base-cased-distilled-squad", "squad", "f1", 87.1),
    ],
)
def test_published_scores(name, task_name, metric, expected, tmp_path):
    download_model(name, head=download_task(task_name).task_type.head)
    scores = evaluate(Pretrained(name), download_task(task_name), split="dev", output_dir=tmp_path)
    assert scores[metric] == pytest.approx(expected, abs=0.2)
