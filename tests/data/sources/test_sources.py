"""Sources: files and globs, datasets in the layout of the Hub, datasets of TFDS."""

import os
import re

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from distilbert_jax.config import experiment_file
from distilbert_jax.data.shards.prepare import Corpus, prepare
from distilbert_jax.data.sources.files import TextFiles
from distilbert_jax.data.sources.hub import HubDataset
from distilbert_jax.data.sources.installed_prose import InstalledProse
from distilbert_jax.data.sources.tfds import Tfds
from distilbert_jax.hub.smoke import make_tiny_text
from tests.conftest import ROOT


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
    with pytest.raises(ValueError, match="no such file, folder or glob: ''"):
        TextFiles("").files()  # and not the current folder
    overlapping = TextFiles((f"{tmp_path}/**", str(tmp_path / "a.txt"), f"{tmp_path}/*.txt"))
    assert names(overlapping) == ["a.txt", "b.txt", "d.md", "deep/c.txt"]  # each once


def made(folder, *names, content="A text."):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def listed(folder, source=None):
    """The files that are read and what is skipped, relative to the folder."""
    source = source or TextFiles(str(folder))
    return [[str(path.relative_to(folder)) for path in paths] for paths in (source.files(), source.skipped())]


def test_hidden_files_and_folders_are_skipped(tmp_path):
    made(tmp_path, "a.txt", "deep/b.txt", ".draft.txt", ".git/HEAD", ".git/refs/x", "deep/.DS_Store", "._a.txt")
    (tmp_path / "deep" / ".DS_Store").write_bytes(b"\0\1")
    assert listed(tmp_path) == [["a.txt", "deep/b.txt"], ["._a.txt", ".draft.txt", ".git", "deep/.DS_Store"]]
    assert listed(tmp_path, TextFiles(f"{tmp_path}/*"))[0] == ["a.txt", "deep/b.txt"]
    assert listed(tmp_path, TextFiles(f"{tmp_path}/.draft.txt")) == [[".draft.txt"], []]  # named itself
    hidden = made(tmp_path / ".cache" / "mine", "a.txt")
    assert listed(hidden) == [["a.txt"], []]  # the folder that is named may be hidden


def test_what_a_download_from_the_hub_leaves_is_skipped(tmp_path):
    marks = (".cache/huggingface/download/data/train.txt.metadata", ".cache/huggingface/.gitignore", ".gitattributes")
    made(tmp_path / "one", "data/train.txt", "README.md", *marks)
    made(tmp_path / "two", "train.jsonl", "README.md", ".gitattributes")
    made(tmp_path / "mine", "README.md", "notes.md")
    files, skipped = listed(tmp_path)
    assert files == ["mine/README.md", "mine/notes.md", "one/data/train.txt", "two/train.jsonl"]
    assert skipped == ["one/.cache", "one/.gitattributes", "one/README.md", "two/.gitattributes", "two/README.md"]
    assert listed(tmp_path, TextFiles(f"{tmp_path}/*/*.md"))[0] == ["mine/README.md", "mine/notes.md"]
    assert listed(tmp_path, TextFiles(f"{tmp_path}/one/README.md")) == [["one/README.md"], []]


def test_how_many_are_skipped_is_printed(tmp_path, tokenizer, capsys):
    made(tmp_path / "texts", ".git/HEAD", *(f".draft{number}.txt" for number in range(9)))
    made(tmp_path / "texts", "a.txt", content=make_tiny_text(documents=40, seed=0))
    source = TextFiles(str(tmp_path / "texts"))
    prepare(
        Corpus(sources={"mine": source}, shard_dir=str(tmp_path / "shards"), sequence_length=32, held_out=0.2),
        tokenizer,
    )
    expected = "mine: 10 hidden files or folders, or descriptions of a dataset, are skipped: "
    assert expected in capsys.readouterr().out


def test_files_of_unknown_formats_are_named(tmp_path):
    made(tmp_path, "a.txt", "b.pdf", "deep/c", "photo.JPG")
    message = f"{tmp_path}/b.pdf, {tmp_path}/deep/c, {tmp_path}/photo.JPG cannot be read, because the name"
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        TextFiles(str(tmp_path)).files()
    pattern = re.search(r"for example with the pattern '(.*)'$", str(caught.value))[1]
    assert listed(tmp_path, TextFiles(pattern))[0] == ["a.txt"]
    with pytest.raises(ValueError, match="deep/c cannot be read, .*: .txt for plain text, .jsonl for one JSON record"):
        TextFiles(f"{tmp_path}/deep/c").files()
    made(tmp_path / "many", *(f"{number}.png" for number in range(100)))
    with pytest.raises(ValueError, match="/many/12.png and 95 more cannot be read"):
        TextFiles(f"{tmp_path}/many").files()


@pytest.mark.parametrize("name", ["texts [draft]*", "what?", "[a-z]", "**"])
def test_a_path_that_exists_is_no_glob(tmp_path, name):
    made(tmp_path, f"{name}/a.txt", f"{name}.txt", "b.txt")
    assert listed(tmp_path, TextFiles(f"{tmp_path}/{name}"))[0] == [f"{name}/a.txt"]
    assert listed(tmp_path, TextFiles(f"{tmp_path}/{name}.txt"))[0] == [f"{name}.txt"]


def test_links(tmp_path):
    """They are followed, each folder once: a link back to a folder above it does not lead in circles."""
    made(tmp_path, "here/a.txt", "elsewhere/b.txt")
    (tmp_path / "here" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "here" / "again").symlink_to(tmp_path / "here")
    assert listed(tmp_path, TextFiles(f"{tmp_path}/here"))[0] == ["here/a.txt", "here/linked/b.txt"]
    (tmp_path / "here" / "lost.txt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="lost.txt is a link to a file that does not exist; remove it"):
        TextFiles(f"{tmp_path}/here").files()
    (tmp_path / "here" / "lost.txt").unlink()
    os.mkfifo(tmp_path / "here" / "pipe.txt")
    with pytest.raises(ValueError, match="pipe.txt is not a regular file; remove it"):
        TextFiles(f"{tmp_path}/here").files()


def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    made(tmp_path, "texts/a.txt", "data/train-0.txt")
    for path in ("~/texts", "~/texts/*.txt", "~/texts/a.txt"):
        assert listed(tmp_path, TextFiles(path))[0] == ["texts/a.txt"]
    assert HubDataset("~").files() == [tmp_path / "data" / "train-0.txt"]
    with pytest.raises(ValueError, match="no such file, folder or glob: '~/nothing'"):
        TextFiles("~/nothing").files()


def test_the_column_can_be_named_on_the_command_line(tmp_path):
    made(tmp_path, "a.csv", content="id,body\n1,Some text.\n")
    experiment = experiment_file.load_experiment(ROOT / "experiments" / "quickstart.py")
    changes = [f"corpus.sources.text={tmp_path}", "corpus.sources.text.field=body"]
    source = experiment_file.apply_overrides(experiment, changes).corpus.sources["text"]
    assert list(source.documents()) == ["Some text."]


def test_a_dataset_of_unknown_files_is_refused(tmp_path):
    made(tmp_path, "data/train-0.arrow")
    with pytest.raises(ValueError, match="train-0.arrow cannot be read, because the name does not end in the suffix"):
        HubDataset(str(tmp_path)).files()


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
