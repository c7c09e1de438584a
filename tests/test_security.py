"""What files of others cannot do: run code, leave their folder, fill the memory, take for ever."""

import ast
import dataclasses
import gzip
import json
import lzma
import pathlib
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

import distilbert_jax
from distilbert_jax.cli.main import format_error
from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.config.experiment_file import load_experiment
from distilbert_jax.data.shards import manifest
from distilbert_jax.data.sources.hub import HubDataset
from distilbert_jax.data.tasks import registry
from distilbert_jax.data.tasks.task_types.choice_selection import ChoiceSelection
from distilbert_jax.data.tokenizer import tokenizer
from distilbert_jax.evaluate.task import evaluate
from distilbert_jax.hub import load as read
from distilbert_jax.io import untrusted
from tests.conftest import ROOT
from tests.test_fuzz import prepared

PACKAGE = pathlib.Path(distilbert_jax.__file__).parent


class Payload:
    """A pickle of it writes a file as it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


def test_no_pickle_runs_code(bert_folder, tmp_path, figures):
    ran = tmp_path / "ran"
    bad = pickle.dumps(Payload(ran))
    pickle.loads(bad)
    assert ran.exists()  # it would
    ran.unlink()

    np.save(tmp_path / "object.npy", np.array([Payload(ran)], object), allow_pickle=True)
    np.savez(tmp_path / "archive.npz", x=np.array([Payload(ran)], object), allow_pickle=True)
    (tmp_path / "plain.npy").write_bytes(bad)
    (tmp_path / "archive.npz").rename(tmp_path / "archive.npy")
    for name in ("object.npy", "archive.npy", "plain.npy"):
        with pytest.raises(ValueError, match=f"{name}: not an array that can be read"):
            untrusted.load_array(tmp_path / name, kind="u", axes=2)
    folder = shutil.copytree(bert_folder, tmp_path / "model")
    (folder / "model.safetensors").write_bytes(bad)
    with pytest.raises(ValueError, match="not a safetensors file"):
        read.load_pretrained(Pretrained(str(folder)))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="is a pickle, which can run any code when it is loaded, so it is not loaded"):
        read.load_pretrained(Pretrained(str(folder)))
    assert not ran.exists()
    figures("test_no_pickle_runs_code", "5 loaded pickles, none was run; the package has no call that could")


def test_the_package_cannot_open_a_pickle_or_run_text():
    """By its syntax: one place runs code, the one that loads an experiment file."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [name.name for name in node.names] + [getattr(node, "module", None) or ""]
                found += [(path.name, name) for name in names if name.split(".")[0] in FORBIDDEN_MODULES]
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                of_text = bool(node.args) or name != "compile"  # a lowered program's method takes none
                found += [(path.name, name)] * (
                    name in FORBIDDEN_CALLS and of_text and not _of_a_module(node.func, "re")
                )
                found += [(path.name, keyword.arg) for keyword in node.keywords if keyword.arg in FORBIDDEN_OPTIONS]
    assert found == [("experiment_file.py", "exec_module")]


FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "torch", "code", "runpy"}
FORBIDDEN_OPTIONS = {"allow_pickle", "trust_remote_code", "weights_only", "shell"}
FORBIDDEN_CALLS = {
    *("eval", "exec", "compile", "__import__", "exec_module", "run_path", "system", "popen", "Popen"),
    *("full_load", "unsafe_load", "load_module", "load_pickle", "read_pickle"),
}


def _of_a_module(func, name):
    return isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name) and func.value.id == name


def test_an_experiment_file_is_said_to_be_code():
    said = subprocess.run([sys.executable, "-m", "distilbert_jax", "distill", "--help"], capture_output=True, text=True)
    assert "the file is Python code that will be executed, so run only files you trust" in " ".join(said.stdout.split())
    assert "It is code: run only those you trust." in (ROOT / "README.md").read_text()


def write_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_names_stay_in_their_folder(bert_folder, tmp_path, figures):
    tried = 0
    for name in ("../x", "/x", "a/b", "..", "", "x\0", "a\\b", "x" * 300):
        tried += 3
        with pytest.raises(ValueError, match="cannot name a file"):
            registry.find_task(name, tmp_path)
        with pytest.raises(ValueError, match="cannot name a file|, which (is empty|has a NUL character)"):
            dataclasses.replace(load_experiment(ROOT / "experiments/quickstart.py"), name=name)
        task = registry.Task(name="mine", task_type=ChoiceSelection(), read=list)
        with pytest.raises(ValueError, match="--split .* cannot name a file"):
            evaluate(Pretrained(str(bert_folder)), task, split=name, output_dir=tmp_path)
    for name in ("../train-00001", "/train-00001", "train-00001/../../x", "other-00001", "train-1", "train-00001\n"):
        tried += 1
        shutil.rmtree(tmp_path / "corpus", ignore_errors=True)
        prepared(tmp_path / "corpus")
        shards = json.loads((tmp_path / "corpus" / "manifest.json").read_text())["shards"]
        shards["train"][0]["name"] = name
        write_json(tmp_path / "corpus" / "manifest.json", shards=shards)
        with pytest.raises(ValueError, match=r"is damaged .* is not a shard that `prepare` wrote"):
            manifest.read_manifest(tmp_path / "corpus")
    for pattern in ("../*", "/etc/*", "data/../../*", "a**b"):
        tried += 1
        card = {"configs": [{"config_name": "default", "data_files": pattern}]}
        (tmp_path / "README.md").write_text(f"---\n{json.dumps(card)}\n---\n")
        with pytest.raises(ValueError, match="This pattern is refused, because it is empty, leads outside"):
            HubDataset(str(tmp_path)).files()
    for name in ("../a.safetensors", "/a.safetensors", "..", "model.bin"):
        tried += 1
        folder = shutil.copytree(bert_folder, tmp_path / f"model{tried}")
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": name}}))
        with pytest.raises(ValueError, match="which is not a file in its folder"):
            read.load_pretrained(Pretrained(str(folder)))
    figures("test_names_stay_in_their_folder", f"{tried} names that would leave their folder, {tried} refused")


LINE = 2**28  # characters that a bomb unpacks to, without a line break
BOUND = 2**28  # bytes of memory beyond what Python and its libraries take

READ = """
import pathlib, resource, sys
import pyarrow, pyarrow.parquet, lzma
from distilbert_jax.data.sources import readers
pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
most = pages * resource.getpagesize() + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (most, most))
try:
    for document in readers.read_documents(pathlib.Path(sys.argv[1]), field="text"):
        assert len(document) <= 2 * readers.MAX_BLOCK_CHARACTERS, len(document)
    print("read in pieces")
except ValueError as error:
    print(error)
"""


def bombs(folder):
    """Each unpacks to hundreds of megabytes or asks for gigabytes. (file, what is said of it)"""
    text = b"a" * LINE
    record = b'{"text": "' + text + b'"}\n'
    wide = [{"id": lzma.FILTER_LZMA2, "dict_size": 2**30, "mode": lzma.MODE_FAST, "mf": lzma.MF_HC3, "preset": 0}]
    contents = {
        "a.txt.gz": (gzip.compress(text, 1), "read in pieces"),
        "b.txt.xz": (lzma.compress(text, preset=0), "read in pieces"),
        "c.txt.zst": (pyarrow.compress(text, "zstd", asbytes=True), "read in pieces"),
        "d.jsonl.gz": (gzip.compress(record, 1), "line 1: a record of 16,777,216 characters or more; split it"),
        "e.jsonl.zst": (pyarrow.compress(record, "zstd", asbytes=True), "line 1: a record of 16,777,216 characters"),
        "f.txt.gz": (gzip.compress(bytes(LINE), 1), "line 1: a zero byte"),
        "g.txt.xz": (lzma.compress(b"a", filters=wide), "cannot be read in line 1 or later: Memory usage limit"),
    }
    for name, (content, said) in contents.items():
        (folder / name).write_bytes(content)
        yield folder / name, said
    many = pyarrow.DictionaryArray.from_arrays(np.zeros(20_000, np.int32), pyarrow.array(["a" * 2**20]))
    pyarrow.parquet.write_table(pyarrow.table({"text": many}), folder / "h.parquet")  # twenty thousand times one text
    yield folder / "h.parquet", "read in pieces"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a" * (2**24 + 1)]}), folder / "i.parquet")
    yield folder / "i.parquet", "a text of 16,777,217 characters, and at most 16,777,216 are read"


def test_bombs_are_refused_within_bounded_memory(tmp_path, figures):
    count = 0
    for path, said in bombs(tmp_path):
        command = [sys.executable, "-c", READ, str(path), str(BOUND)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=100)
        assert said in ended.stdout, (path.name, ended.stdout[-500:], ended.stderr[-1_000:])
        count += 1
    figures(
        "test_bombs_are_refused_within_bounded_memory",
        f"{count} bombs of {LINE / 2**20:,.0f} MB and more, each under {BOUND / 2**20:,.0f} MB of memory",
    )


def test_files_that_are_too_large_or_no_files(tmp_path):
    with open(tmp_path / "config.json", "wb") as file:
        file.truncate(untrusted.MAX_JSON_BYTES + 1)  # takes no room on disk
    with pytest.raises(ValueError, match=r"config.json has 67,108,865 bytes, but at most 67,108,864 are read"):
        untrusted.read_json(tmp_path / "config.json", dict)
    (tmp_path / "endless").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="endless is not a regular file"):
        untrusted.read_text(tmp_path / "endless")
    assert len(format_error(ValueError("x" * 10**6))) < 2_000


def test_a_shape_that_no_weights_have_is_refused_before_memory_is_taken(bert_folder, tmp_path):
    for number, (changes, said) in enumerate(
        [
            ({"vocab_size": 10**12}, "vocab_size must be at most 16,777,216, not 1,000,000,000,000"),
            ({"num_hidden_layers": 10**9}, "num_layers must be at most 256, not 1,000,000,000"),
            ({"num_hidden_layers": 250}, "states 250 layers"),
            ({"vocab_size": 2**24}, "but config.json asks for"),
            ({"hidden_dropout_prob": float("nan")}, "dropout must be a number from 0 to below 1, not nan"),
            ({"hidden_size": True}, "hidden_size"),
        ]
    ):
        folder = shutil.copytree(bert_folder, tmp_path / str(number))
        write_json(folder / "config.json", **changes)
        with pytest.raises(ValueError, match=said):
            read.load_pretrained(Pretrained(str(folder)))
    folder = shutil.copytree(bert_folder, tmp_path / "deep")
    (folder / "config.json").write_text("[" * 10_000)
    with pytest.raises(ValueError, match="config.json: not JSON that can be read: it is nested too deeply"):
        read.load_pretrained(Pretrained(str(folder)))
    folder = shutil.copytree(bert_folder, tmp_path / "labels")
    write_json(folder / "config.json", id2label=None, num_labels=10**12)
    with pytest.raises(ValueError, match="num_labels must be a whole number from 1 to 65,536"):
        read.read_config(folder, "sequence_classification")


REPLACE = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
SLOW = {
    "a pattern that backtracks": (
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}},
        r"regular expression '\(a\+\)\+\$' is not one of those",
    ),
    "doublings": ({"normalizer": {"type": "Sequence", "normalizers": [REPLACE] * 60}}, "times as long"),
    "a map that ends the process": (
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "////////"}},
        "precompiled_charsmap is cut off",
    ),
    "a map that panics": (
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "BAAAAAAAAAA="}},
        "not a tokenizer that can be read: index out of bounds",
    ),
    "pieces of no length": (
        {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
        "not a tokenizer that can be read: chunk size must be non-zero",
    ),
    "words without end": ({"max_input_chars_per_word": 10**18}, "max_input_chars_per_word is 1000000000000000000"),
}


@pytest.mark.parametrize("name", SLOW)
def test_tokenizers_that_could_take_for_ever_are_refused(name, bert_folder, tmp_path, figures, capfd):
    changes, said = SLOW[name]
    folder = shutil.copytree(bert_folder, tmp_path / "model")
    path = folder / "tokenizer.json"
    if name == "words without end":
        changes = {"model": json.loads(path.read_text())["model"] | changes}
    write_json(path, **changes)
    with pytest.raises(ValueError, match=said) as caught:
        tokenizer.load_tokenizer(folder)
    assert str(path) in str(caught.value)
    figures("test_tokenizers_that_could_take_for_ever_are_refused", f"{len(SLOW)} ways to, {len(SLOW)} refused")


def test_numbers_of_words_beyond_their_count_are_refused(bert_folder, tmp_path):
    folder = shutil.copytree(bert_folder, tmp_path / "model")
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    model["vocab"]["zebra"] = 70_000
    write_json(folder / "tokenizer.json", model=model)
    with pytest.raises(ValueError, match="but its highest id is 70,000"):
        tokenizer.load_tokenizer(folder)
