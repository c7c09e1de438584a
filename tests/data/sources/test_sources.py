"""Sources: files and globs, datasets in the layout of the Hub, datasets of TFDS."""

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from distilbert_jax.data.sources.files import TextFiles
from distilbert_jax.data.sources.hub import HubDataset
from distilbert_jax.data.sources.installed_prose import InstalledProse
from distilbert_jax.data.sources.tfds import Tfds


def test_files_folders_and_globs(tmp_path):
    for name in ("b.txt", "a.txt", "deep/c.txt", "d.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)

    def names(source):
        return [str(path.relative_to(tmp_path)) for path in source.files()]

    assert names(TextFiles(f"{tmp_path}/*.txt")) == ["a.txt", "b.txt"]
    assert names(TextFiles(f"{tmp_path}/**/*.txt")) == ["a.txt", "b.txt", "deep/c.txt"]
    assert names(TextFiles((f"{tmp_path}/d.md", str(tmp_path / "deep")))) == ["d.md", "deep/c.txt"]
    assert list(TextFiles(str(tmp_path)).documents()) == ["a.txt", "b.txt", "d.md", "deep/c.txt"]
    with pytest.raises(ValueError, match="no such file, folder or glob: 'nowhere.txt'"):
        TextFiles("nowhere.txt").files()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no files in"):
        TextFiles(str(tmp_path / "empty")).files()


CARD = """---
license: cc-by-sa-3.0
configs:
- config_name: 20231101.en
  data_files:
  - split: train
    path: 20231101.en/train-*
- config_name: 20231101.de
  data_files: 20231101.de/*.parquet
---
# A dataset
"""


@pytest.fixture
def hub_dataset(tmp_path):
    """A local folder with the layout of `wikimedia/wikipedia` on the Hub."""
    for configuration in ("20231101.en", "20231101.de"):
        (tmp_path / configuration).mkdir()
        for part in (0, 1):
            table = pyarrow.table({"title": ["t"], "text": [f"{configuration} {part}"]})
            pyarrow.parquet.write_table(table, tmp_path / configuration / f"train-0000{part}-of-00002.parquet")
    (tmp_path / "README.md").write_text(CARD)
    return tmp_path


def test_hub_dataset(hub_dataset):
    source = HubDataset(str(hub_dataset), configuration="20231101.en", revision="0123abc")
    assert list(source.documents()) == ["20231101.en 0", "20231101.en 1"]
    assert source.license() == "cc-by-sa-3.0"
    assert len(HubDataset(str(hub_dataset), configuration="20231101.de").files()) == 2
    with pytest.raises(ValueError, match="no configuration 'fr': choose one of 20231101.en, 20231101.de"):
        HubDataset(str(hub_dataset), configuration="fr").files()
    with pytest.raises(ValueError, match="no split 'test': choose one of train"):
        HubDataset(str(hub_dataset), configuration="20231101.en", split="test").files()
    (hub_dataset / "README.md").unlink()
    assert len(HubDataset(str(hub_dataset), configuration="20231101.en").files()) == 2  # by the folder's name
    assert HubDataset(str(hub_dataset)).license() == "not stated"
    with pytest.raises(ValueError, match="no files for configuration 'default'"):
        HubDataset(str(hub_dataset)).files()


def test_tfds(tmp_path):
    """A dataset built here, read without TensorFlow."""
    tfds = pytest.importorskip("tensorflow_datasets")

    class TinyText(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict(
                {"text": tfds.features.Text(), "label": tfds.features.Scalar(np.int64)}
            )
            return self.dataset_info_from_configs(features=features, license="CC0")

        def _split_generators(self, dl_manager):
            return {"train": ((i, {"text": f"document {i}", "label": i}) for i in range(5))}

        def _generate_examples(self):
            raise NotImplementedError

    TinyText(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    source = Tfds("tiny_text", data_dir=str(tmp_path))
    assert sorted(source.documents()) == [f"document {i}" for i in range(5)]
    assert len(source.files()) == 1
    assert source.license() == "CC0"
    with pytest.raises(ValueError, match="no field 'body', only"):
        list(Tfds("tiny_text", field="body", data_dir=str(tmp_path)).documents())
    with pytest.raises(ValueError, match="TFDS tiny_text: its files are read together.* without --ray-address"):
        list(source.read(source.files()[0]))  # as a cluster's worker does
    import sys

    assert "tensorflow" not in sys.modules


def test_installed_prose_is_english_and_always_the_same():
    source = InstalledProse(packages=("rich",))
    documents = list(source.documents())
    assert documents == list(source.documents())
    assert len(documents) > 1_000
    letters = sum(c.isalpha() or c.isspace() for text in documents for c in text)
    assert letters / sum(map(len, documents)) > 0.9
