"""Bad files, made by hypothesis of good ones: every reader refuses them in words that name the file, or reads them."""

import collections
import contextlib
import functools
import gzip
import json
import lzma
import pathlib
import resource
import shutil
import signal

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings

from distilbert_jax.cli.main import format_error
from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.data.batches import Shards
from distilbert_jax.data.shards import manifest
from distilbert_jax.data.sources import readers
from distilbert_jax.data.sources.hub import HubDataset
from distilbert_jax.data.tasks import registry
from distilbert_jax.data.tasks.task_types.base import TaskTokenizer
from distilbert_jax.data.tokenizer import tokenizer as tokens
from distilbert_jax.evaluate import retention
from distilbert_jax.hub import load, safetensors_files
from distilbert_jax.io import files, untrusted
from distilbert_jax.report import run_report
from distilbert_jax.runtime import metrics_log
from distilbert_jax.runtime.checkpoint import Checkpoints
from tests.evaluate.test_retention import write as write_results
from tests.helpers import fuzz

SECONDS = 10  # for one input
MEMORY = 2**32  # more than the tests take themselves

GLUE = "sentence\tlabel\nA cat, red.\t1\nA dog\t0\n"
SWAG = 'id,sent1,sent2,ending0,ending1,ending2,ending3,label\n1,a,b,c,d,e,f,2\n2,"a\n, b",b,c,d,e,f,0\n'
ANSWERS = [{"text": "cat", "answer_start": 6}]
SQUAD = {
    "data": [{"paragraphs": [{"context": "A red cat.", "qas": [{"id": "1", "question": "?", "answers": ANSWERS}]}]}]
}
OWN = [{"text": "a", "label": "x", "score": None}, {"text": "b", "probabilities": {"x": 0.25, "y": 0.75}}]
CARD = (
    "---\nlicense: mit\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/*.txt\n---\n"
)
TEXT = "A cat runs.\nIt is red.\n\nThe dog é sleeps.\n" * 3
LOG = [{"kind": "train", "step": 1, "loss/hard": 2.0}, {"kind": "eval", "step": 2, "accuracy": 0.5}]
FINAL = {"masked_tokens": 9, "accuracy": 0.5, "accuracy_stderr": 0.1, "perplexity": 3.0}
MRPC = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t1\t2\ta\tb\n0\t3\t4\tc\td\n"
CONLL = "-DOCSTART- O\n\nAda B-PER\nlives O\n\nTurin B-LOC\n"


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def written(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


@pytest.fixture(scope="module")
def table(tmp_path_factory, bert_folder, tokenizer):
    """{reader: (the file that is damaged, what reads it)}."""
    base = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "parameter_shapes", functools.cache(load.parameter_shapes))  # a second each, the same
        yield of_models(base, bert_folder) | of_corpora(base) | of_tasks(base, tokenizer) | of_runs(base)


def of_models(base, bert_folder):
    folders = {
        name: shutil.copytree(bert_folder, base / name)
        for name in ("config", "weights", "tokenizer", "settings", "special", "added", "vocabulary")
    }
    for name in ("settings", "special", "added", "vocabulary"):
        (folders[name] / "tokenizer.json").unlink()
    mask = {"content": "[MASK]", "lstrip": False, "normalized": False}
    written(folders["special"], {"special_tokens_map.json": json.dumps({"mask_token": mask, "cls_token": "[CLS]"})})
    written(folders["added"], {"added_tokens.json": json.dumps({"<place>": 88, "<time>": 89})})
    whole = Pretrained(str(folders["weights"]))
    index = written(base / "index", {"model.safetensors.index.json": '{"weight_map": {"w": "a.safetensors"}}'})
    written(index, {"a.safetensors": ""})

    def config():
        for head in ("masked_lm", "sequence_classification", "question_answering"):
            load.read_config(folders["config"], head)

    def tokenizer(name):
        ids = [one.ids for one in tokens.load_tokenizer(folders[name]).encode([TEXT, "x" * 5_000])]
        assert max(map(len, ids)) < 50_000

    return {
        "config.json": (folders["config"] / "config.json", config),
        "model.safetensors": (
            folders["weights"] / "model.safetensors",
            lambda: load.load_pretrained(whole),
        ),
        "index.json": (index / "model.safetensors.index.json", lambda: safetensors_files.find_weights(index)),
        "tokenizer.json": (folders["tokenizer"] / "tokenizer.json", lambda: tokenizer("tokenizer")),
        "tokenizer_config.json": (folders["settings"] / "tokenizer_config.json", lambda: tokenizer("settings")),
        "special_tokens_map.json": (folders["special"] / "special_tokens_map.json", lambda: tokenizer("special")),
        "added_tokens.json": (folders["added"] / "added_tokens.json", lambda: tokenizer("added")),
        "vocab.txt": (folders["vocabulary"] / "vocab.txt", lambda: tokenizer("vocabulary")),
    }


def of_corpora(base):
    folder = base / "corpus"
    prepared(folder)
    card = written(base / "card", {"README.md": CARD, "data/a.txt": "A cat."})
    parquet = base / "made.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": [TEXT, "b", None], "n": [1, 2, 3]}), parquet)
    whole = TEXT.encode() * 9
    contents = {
        "a.txt": TEXT,
        "b.jsonl": lines([{"text": TEXT}, {"text": "b", "n": 1}]),
        "c.txt.gz": gzip.compress(whole, mtime=0),
        "d.txt.xz": lzma.compress(whole),
        "e.txt.zst": pyarrow.compress(whole, "zstd", asbytes=True),
        "f.parquet": parquet.read_bytes(),
    }
    written(base / "text", contents)
    array, shard = folder / "train-00002.tokens.npy", folder / "train-00001.json"

    def rows():
        for shards in manifest.read_manifest(folder)["shards"].values():
            Shards(folder, shards)

    def text(name):
        return lambda: [text.encode() for text in readers.read_documents(base / "text" / name, field="text")]

    return {
        "manifest.json": (folder / "manifest.json", rows),
        "shard.json": (shard, lambda: manifest.read_shard(shard)),
        "shard.npy": (array, lambda: np.array(untrusted.load_array(array, kind="u", axes=2))),
        "README.md": (card / "README.md", lambda: [HubDataset(str(card)).files(), HubDataset(str(card)).license()]),
    } | {name: (base / "text" / name, text(name)) for name in contents}


def prepared(folder):
    """A folder as `prepare` leaves it, in little."""
    folder.mkdir()
    shards = []
    for name in ("train-00001", "train-00002", "held_out-00001"):
        for array in manifest.SHARD_ARRAYS:
            np.save(folder / f"{name}.{array}.npy", np.ones((3, 16), np.uint16))
        sums = {array: files.sha256(folder / f"{name}.{array}.npy") for array in manifest.SHARD_ARRAYS}
        shards.append({"name": name, "rows": 3, "sha256": sums, "counts": {"documents": 1}})
    whole = {
        "settings": {"format": str(manifest.FORMAT)},
        "files": [{"source": "a", "name": "b", "bytes": 1, "modified_ns": 1, "sha256": "00"}],
        "licenses": {"a": "not stated"},
        "shards": {"train": shards[:1], "held_out": shards[2:]},
        "token_counts": {"sha256": "00"},
        "totals": {"rows": 6, "real_share": 0.5},
    }
    written(folder, {"train-00001.json": json.dumps(shards[0]), "manifest.json": json.dumps(whole)})


def of_tasks(base, tokenizer):
    reading = TaskTokenizer(tokenizer=tokenizer, max_length=32)
    squad, piqa = json.dumps(SQUAD), lines([{"goal": "g", "sol1": "a", "sol2": "b"}] * 2)
    codah, own = "o\tp\ta\tb\tc\td\t3\n", lines(OWN)
    soft = 'text,label,probability:x,probability:y\n"a, b",x,,\nb,,0.5,0.5\n'
    known = {
        "sst2": {"train.tsv": GLUE, "dev.tsv": GLUE},
        "mrpc": {"train.tsv": MRPC, "dev_ids.tsv": "1\t2\n"},
        "squad": {"dev-v1.1.json": squad, "train-v1.1.json": squad},
        "conll2003": {"train.txt": CONLL, "valid.txt": CONLL},
        "swag": {"train.csv": SWAG, "val.csv": SWAG},
        "codah": {"train.tsv": codah, "dev.tsv": codah},
        "piqa": {"valid.jsonl": piqa, "valid-labels.lst": "0\n1\n", "train.jsonl": piqa},
        "imdb": {"train/pos/1.txt": "good é", "train/neg/1.txt": "bad", "test/neg/1.txt": "bad"},
        "own.csv": {"train.csv": soft, "dev.csv": "text,label\na,x\n"},
        "own.jsonl": {"train.jsonl": own, "dev.jsonl": own},
    }

    def task(name):
        found = registry.find_task(name, base / name)
        for split in (*found.dev, *found.test, "train"):
            found.task_type.encode(found.read(split), reading)

    return {
        name: (written(base / name, contents) / next(iter(contents)), functools.partial(task, name))
        for name, contents in known.items()
    }


def of_runs(base):
    results, run, checkpoints = base / "results", base / "run", base / "checkpoints"
    write_results(results, "sst2", 0.9, seeds=1, size=8)
    written(run, {"log.jsonl": lines(LOG), "results.json": json.dumps({"teacher": None, "final": FINAL})})
    written(checkpoints, {"1/a": "x", "1.sha256": json.dumps({"a": "00", "b": "11"})})
    kept = Checkpoints(checkpoints, keep=1)

    def logged():
        metrics_log.read_log(run, "eval", shape=["accuracy"])
        metrics_log.read_log(run, "train")
        metrics_log.truncate_log(run / "log.jsonl", 1)

    return {
        "seed0.json": (results / "sst2" / "seed0.json", lambda: retention.load_results(results)),
        "per_example.json": (results / "sst2" / "seed0" / "per_example.json", lambda: retention.load_results(results)),
        "results.json": (run / "results.json", lambda: run_report.read_results(run / "results.json")),
        "log.jsonl": (run / "log.jsonl", logged),
        "1.sha256": (checkpoints / "1.sha256", lambda: kept._find_damage(1)),
    }


NAMES = (
    *("config.json", "model.safetensors", "index.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"),
    *("special_tokens_map.json", "added_tokens.json"),
    *("manifest.json", "shard.json", "shard.npy", "a.txt", "b.jsonl", "c.txt.gz", "d.txt.xz", "e.txt.zst"),
    *("f.parquet", "README.md", "sst2", "mrpc", "squad", "conll2003", "swag", "codah", "piqa", "imdb", "own.csv"),
    *("own.jsonl", "seed0.json", "per_example.json", "results.json", "log.jsonl", "1.sha256"),
)
EACH, EACH_PROVEN = 7, 350  # 231 in all, and 11,550


@pytest.fixture(scope="module")
def tally(figures):
    """(reader, whether it was refused): how often."""
    counted = collections.Counter()
    yield counted
    refused = sum(count for (_, was), count in counted.items() if was)
    each = ", ".join(f"{name} {counted[name, True]}" for name in NAMES)
    figures(
        "test_bad_files_are_refused_in_words",
        f"{counted.total():,} bad files to {len(NAMES)} readers: {refused:,} refused in words, the rest could still be "
        f"read; no crash, hang or other exception. Refused of {EACH_PROVEN} each: {each}",
    )


class TooLong(BaseException):
    """Of one input."""


@contextlib.contextmanager
def bounded():
    """Time and memory of one input."""

    def stop(*_):
        raise TooLong

    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, limits[1]))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def refused(path, run) -> bool:
    """Whether the file was refused; AssertionError unless in words that name it."""
    with bounded():
        try:
            run()
        except (ValueError, OSError) as error:
            said = format_error(error)
            plain = type(error) is ValueError or isinstance(error, OSError)
            if not plain or str(path.parent) not in said:
                raise AssertionError(f"no clear error that names the file: {error!r}") from error
            return True
    return False


@pytest.mark.parametrize("name", NAMES)
def test_bad_files_are_refused_in_words(name, table, tally, prove, capfd):
    path, run = table[name]
    good = path.read_bytes()
    if path.suffix == ".json" or path.name == "1.sha256":
        damaged = fuzz.byte_edits.map(lambda edits: fuzz.edit_bytes(good, edits))
        damaged |= fuzz.json_edits.map(lambda edits: fuzz.edit_json(good, edits))
    elif path.suffix == ".jsonl":
        damaged = fuzz.byte_edits.map(lambda edits: fuzz.edit_bytes(good, edits))
        damaged |= fuzz.json_edits.map(lambda edits: fuzz.edit_lines(good, edits))
    else:
        damaged = fuzz.byte_edits.map(lambda edits: fuzz.edit_bytes(good, edits))
    run()  # the good one

    @settings(
        max_examples=EACH_PROVEN if prove else EACH,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged)
    def one(content):
        path.write_bytes(content)
        tally[name, refused(path, run)] += 1

    try:
        one()
    finally:
        path.write_bytes(good)
