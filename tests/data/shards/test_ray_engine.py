"""The same shards from a Ray cluster of two nodes as from this machine, in any order and with workers killed."""

import dataclasses
import os
import pathlib
import signal
import sys
import threading
import time

import numpy as np
import pytest

from distilbert_jax.data.shards import chunks, ray_engine
from distilbert_jax.data.shards.prepare import Corpus, prepare
from distilbert_jax.data.shards.splits import DROPPED, HELD_OUT
from distilbert_jax.data.sources.files import TextFiles
from distilbert_jax.hub.smoke import make_tiny_text
from tests.conftest import ROOT

ray = pytest.importorskip("ray", reason="needs the extra `cluster`")
# The nodes of a test are started from its process, where earlier tests have imported JAX, which warns of every fork.
pytestmark = pytest.mark.filterwarnings(r"ignore:os\.fork\(\) was called:RuntimeWarning")


@pytest.fixture
def corpus(tmp_path):
    """Files of very different sizes, one of them empty, one that repeats another, and documents that are held out."""
    sources = {}
    for name, files in {"a": (400, 3, 60, 0, 200), "b": (150, 150)}.items():
        (tmp_path / name).mkdir()
        for number, documents in enumerate(files):
            text = make_tiny_text(documents=documents, seed=number % 3) if documents else "\n\n"
            (tmp_path / name / f"{number}.txt").write_text(text)
        sources[name] = TextFiles(str(tmp_path / name))
    return Corpus(sources=sources, shard_dir=str(tmp_path / "local"), sequence_length=32, held_out=0.1)


def streamed(sources, split_of):
    return {chunk.name: chunk.texts for chunk in chunks.read_chunks(sources, split_of)}


def grouped(sources, split_of):
    lengths = [np.array([len(text) for text in s.read(path)], np.uint32) for _, s in sources for path in s.files()]
    groups = list(chunks.plan_chunk_groups(sources, split_of, lengths))
    return {chunk.name: chunk.texts for group in groups for chunk in group.read()}, groups


@pytest.mark.parametrize("size", [1, 300, 2_000, 30_000, 10**9])
@pytest.mark.parametrize("seed", range(4))
def test_the_two_ways_to_cut_are_one_rule(corpus, monkeypatch, size, seed):
    monkeypatch.setattr(chunks, "CHUNK_CHARACTERS", size)
    sources = corpus.named_sources()
    documents = sum(1 for _, source in sources for _ in source.documents())
    random = np.random.default_rng(seed)
    split_of = random.choice(3, documents, p=[(0.6, 0.3, 0.1), (1, 0, 0), (0.01, 0.01, 0.98), (0.9, 0.1, 0)][seed])
    expected = streamed(sources, split_of)
    actual, groups = grouped(sources, split_of)
    assert actual == expected
    assert sum(map(len, expected.values())) == np.count_nonzero(split_of != DROPPED)
    assert all(len(group.sizes) <= chunks.MAX_CHUNKS_PER_GROUP for group in groups)


def test_a_rule_that_cuts_one_document_too_late_is_seen(corpus, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_CHARACTERS", 2_000)
    bounds = chunks._chunk_bounds
    monkeypatch.setattr(
        chunks, "_chunk_bounds", lambda lengths: [0, *(min(end + 1, len(lengths)) for end in bounds(lengths)[1:])]
    )
    sources = corpus.named_sources()
    documents = sum(1 for _, source in sources for _ in source.documents())
    assert grouped(sources, np.zeros(documents, int))[0] != streamed(sources, np.zeros(documents, int))


def test_no_cluster_there(monkeypatch):
    """Must be the first test with an engine: the later ones start a cluster."""
    with pytest.raises(
        ValueError, match=r"--ray-address auto: there is no Ray cluster at this address; `ray start --head` starts one"
    ):
        ray_engine.RayEngine("auto")
    with pytest.raises(ValueError, match="no Ray cluster at this address.*Connection refused"):
        ray_engine.RayEngine("localhost:9")
    with pytest.raises(ValueError, match="^'localhost' is not HOST:PORT, such as localhost:9876$"):
        ray_engine.RayEngine("localhost")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install 'distilbert_jax\[cluster\]'"):
        ray_engine.RayEngine("auto")


@pytest.fixture(scope="module")
def nodes():
    """A cluster of two nodes, each a set of processes of its own as on two machines."""
    from ray.cluster_utils import Cluster

    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    os.environ["PYTHONPATH"] = str(ROOT)
    running = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    running.add_node(num_cpus=1)
    yield running
    ray.shutdown()
    running.shutdown()


def prepared(address: str, corpus, tokenizer, folder: pathlib.Path):
    """Prepares the corpus on the cluster."""
    ray.shutdown()
    engine = ray_engine.RayEngine(address)
    return prepare(dataclasses.replace(corpus, shard_dir=str(folder)), tokenizer, engine)


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def test_the_same_bytes_from_two_nodes(nodes, corpus, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_CHARACTERS", 2_000)
    local = prepare(corpus, tokenizer)
    from_cluster = prepared(nodes.address, corpus, tokenizer, tmp_path / "cluster")
    assert from_cluster.sha256 == local.sha256
    assert contents(from_cluster.folder) == contents(local.folder)
    assert len(local.shards["train"]) > 20
    assert len(local.shards[HELD_OUT]) > 1


def pack_and_record_node(group, tokenizer, sequence_length):
    """As `ray_engine.pack_group`, but leaves a file that names its node and process."""
    time.sleep(0.3)
    path = pathlib.Path(os.environ["SEEN"]) if "SEEN" in os.environ else group.paths[0].parent.parent
    (path / f"on-{ray.get_runtime_context().get_node_id()}-{os.getpid()}").touch()
    return ray_engine.pack_group(group, tokenizer, sequence_length)


def test_both_nodes_work_and_one_that_is_killed_loses_nothing(nodes, corpus, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_CHARACTERS", 2_000)
    monkeypatch.setattr(chunks, "MAX_CHUNKS_PER_GROUP", 2)
    local = prepare(corpus, tokenizer)
    monkeypatch.setattr(ray_engine, "pack_group", pack_and_record_node)
    killed = []

    def kill():
        while len({path.name.split("-")[1] for path in tmp_path.glob("on-*")}) < 2:
            time.sleep(0.05)
        time.sleep(0.2)
        killed.extend(tmp_path.glob("on-*"))
        for path in killed:
            os.kill(int(path.name.split("-")[2]), signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    from_cluster = prepared(nodes.address, corpus, tokenizer, tmp_path / "cluster")
    killer.join(60)
    assert len(killed) >= 2
    assert len({path.name.split("-")[1] for path in tmp_path.glob("on-*")}) >= 2
    assert contents(from_cluster.folder) == contents(local.folder)


def test_a_node_that_is_lost_and_one_that_comes(nodes, corpus, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_CHARACTERS", 2_000)
    monkeypatch.setattr(chunks, "MAX_CHUNKS_PER_GROUP", 2)
    local = prepare(corpus, tokenizer)
    monkeypatch.setattr(ray_engine, "pack_group", pack_and_record_node)
    node = nodes.add_node(num_cpus=1)

    def lose():
        while not list(tmp_path.glob(f"on-{node.node_id}-*")):
            time.sleep(0.05)
        nodes.remove_node(node, allow_graceful=False)

    loser = threading.Thread(target=lose, daemon=True)
    loser.start()
    from_cluster = prepared(nodes.address, corpus, tokenizer, tmp_path / "cluster")
    loser.join(60)
    assert not loser.is_alive()
    assert contents(from_cluster.folder) == contents(local.folder)


def test_it_continues_with_the_shards_that_exist(nodes, corpus, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_CHARACTERS", 2_000)
    monkeypatch.setattr(chunks, "MAX_CHUNKS_PER_GROUP", 2)
    local = prepare(corpus, tokenizer)
    save_shard, saved = ray_engine.local_engine.save_shard, []

    def stop_after_five(name, rows, folder):
        if len(saved) == 5:
            raise KeyboardInterrupt
        saved.append(name)
        return save_shard(name, rows, folder)

    monkeypatch.setattr(ray_engine.local_engine, "save_shard", stop_after_five)
    with pytest.raises(KeyboardInterrupt):
        prepared(nodes.address, corpus, tokenizer, tmp_path / "cluster")
    assert not (tmp_path / "cluster" / "manifest.json").exists()
    again = []
    monkeypatch.setattr(
        ray_engine.local_engine, "save_shard", lambda name, *rest: again.append(name) or save_shard(name, *rest)
    )
    from_cluster = prepared(nodes.address, corpus, tokenizer, tmp_path / "cluster")
    assert not set(saved[:4]) & set(again)
    assert contents(from_cluster.folder) == contents(local.folder)


def dies(group, tokenizer, sequence_length):
    os.kill(os.getpid(), signal.SIGKILL)


def refuses(group, tokenizer, sequence_length):
    raise ValueError("a text that cannot be read")


def test_errors_of_workers_in_one_line(nodes, corpus, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_engine, "pack_group", dies)
    monkeypatch.setattr(ray_engine, "MAX_TASK_TRIES", 2)
    with pytest.raises(ValueError, match="lost its worker 2 times.*same command again to continue"):
        prepared(nodes.address, corpus, tokenizer, tmp_path / "dies")
    monkeypatch.setattr(ray_engine, "pack_group", refuses)
    with pytest.raises(ValueError, match="^a text that cannot be read$"):
        prepared(nodes.address, corpus, tokenizer, tmp_path / "refuses")
    with pytest.raises(ValueError, match="does not see .*gone.txt: every node needs the corpus's files"):
        ray_engine.scan_file(TextFiles("gone.txt"), pathlib.Path("gone.txt"))
