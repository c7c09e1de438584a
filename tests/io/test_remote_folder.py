"""Tests folders in an object store: they are complete or absent, downloaded once, and fail within a stated time."""

import concurrent.futures
import functools
import json
import subprocess
import sys
import time

import pytest

from distilbert_jax.io import files, folder_marker, object_store, remote_folder
from tests.conftest import ROOT
from tests.helpers import objects


@pytest.fixture(scope="module")
def server():
    with objects.serve() as running:
        yield running


@pytest.fixture
def store(server, tmp_path, monkeypatch):
    for name, value in server.environment(tmp_path / "cache").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(object_store, "RETRY_TIMEOUT_SECONDS", 2.0)
    object_store.open_store.cache_clear()
    server.requests.clear()
    yield server
    server.meddle = lambda method, key: None
    object_store.open_store.cache_clear()


@pytest.fixture
def scheme() -> str:
    return "s3"


@pytest.fixture
def folder(store, request, scheme) -> remote_folder.RemoteFolder:
    """Returns a folder of three files that is only on this machine so far."""
    remote = remote_folder.open_remote_folder(f"{scheme}://bucket/{request.node.name}/shards")
    (remote.copy / "deep").mkdir(parents=True)
    for name, content in {"a.npy": b"a" * 100_000, "b.npy": b"bb", "deep/c": b""}.items():
        (remote.copy / name).write_bytes(content)
    (remote.copy / files.LOCK).touch()
    return remote


def names(folder: remote_folder.RemoteFolder) -> list[str]:
    return sorted(folder.bucket.list_tags(folder.path))


def test_objects_of_the_user_are_not_replaced(folder, store):
    """An upload deletes the objects that it does not replace, so it has to be the program's own folder."""
    check = functools.partial(folder_marker.check_remote_owner, folder, setting="workdir=ADDRESS")
    check("distill")  # the folder does not exist
    folder.bucket.write(f"{folder.path}/notes.txt", b"mine")
    with pytest.raises(ValueError, match="has files that this program did not make, such as notes.txt"):
        check("distill")
    assert names(folder) == ["notes.txt"]
    folder_marker.write_marker(folder.copy, "distill")
    folder.upload()
    check("distill")
    with pytest.raises(ValueError, match="was made by `distill`, so `prepare` does not write to it"):
        check("prepare")


def elsewhere(
    folder: remote_folder.RemoteFolder, tmp_path, monkeypatch, name="elsewhere"
) -> remote_folder.RemoteFolder:
    """Returns the same folder as another machine would see it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
    return remote_folder.open_remote_folder(str(folder))


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_folder_goes_round(folder, tmp_path, monkeypatch, scheme):
    (folder.copy / "large").write_bytes(bytes(range(256)) * 50_000)  # it is sent in several parts
    folder.upload()
    other = elsewhere(folder, tmp_path, monkeypatch)
    assert other.copy != folder.copy
    assert other.download()
    assert files.folder_hashes(other.copy) == files.folder_hashes(folder.copy)
    parent = remote_folder.open_remote_folder(str(folder).removesuffix("/shards"))
    assert parent.list_complete() == ["shards"]
    folder.remove()
    assert parent.list_complete() == []
    assert not other.download()


def test_the_sums_are_written_last(folder, store):
    folder.upload()
    assert store.keys("PUT")[-1] == f"{folder.path}.sha256"
    assert json.loads(store.read(f"{folder.path}.sha256")) == files.folder_hashes(folder.copy)


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_what_was_not_sent_whole_is_not_there_and_goes_on(folder, store, after, tmp_path, monkeypatch):
    """However many files were sent before it ended, also if it replaces a complete folder."""
    monkeypatch.setattr(remote_folder, "PARALLEL_TRANSFERS", 1)
    folder.upload()
    (folder.copy / "a.npy").write_bytes(b"new")
    (folder.copy / "b.npy").write_bytes(b"bc")
    (folder.copy / "d").write_bytes(b"d")
    (folder.copy / "deep" / "c").unlink()
    store.requests.clear()
    store.meddle = lambda method, key: "refuse" if method == "PUT" and len(store.keys("PUT")) > after + 1 else None
    with pytest.raises(ConnectionError, match="503|retries"):
        folder.upload()
    other = elsewhere(folder, tmp_path, monkeypatch)
    assert not other.download()
    store.meddle = lambda method, key: None
    sent = set(store.keys("PUT")[1 : after + 1])
    store.requests.clear()
    folder.upload()
    assert not {key for key in store.keys("PUT") if not key.endswith((".sha256", ".partial"))} & sent
    assert other.download()
    assert sorted(files.folder_hashes(other.copy)) == ["a.npy", "b.npy", "d"]


def test_it_is_fetched_once_a_machine(folder, store, tmp_path, monkeypatch):
    folder.upload()
    other = elsewhere(folder, tmp_path, monkeypatch)
    store.requests.clear()
    code = "import sys; from distilbert_jax.io.remote_folder import open_remote_folder as open_folder; "
    code += "assert open_folder(sys.argv[1]).download()"

    def run(_):
        return subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, check=True)

    with concurrent.futures.ThreadPoolExecutor(3) as together:
        list(together.map(run, range(3)))
    assert sorted(key for key in store.keys("GET") if key.startswith(f"{folder.path}/")) == [
        f"{folder.path}/{name}" for name in ("a.npy", "b.npy", "deep/c")
    ]
    assert other.download()


def test_only_what_changed_is_fetched_again(folder, store, tmp_path, monkeypatch):
    folder.upload()
    other = elsewhere(folder, tmp_path, monkeypatch)
    other.download()
    (folder.copy / "b.npy").write_bytes(b"changed")
    (folder.copy / "deep" / "c").unlink()
    folder.upload()
    store.requests.clear()
    assert other.download()
    assert [key for key in store.keys("GET") if key.startswith(f"{folder.path}/")] == [f"{folder.path}/b.npy"]
    assert files.folder_hashes(other.copy) == files.folder_hashes(folder.copy)


@pytest.mark.parametrize("how", ["flip", "cut"])
def test_bytes_that_are_not_what_was_sent(folder, store, tmp_path, monkeypatch, how):
    folder.upload()
    other = elsewhere(folder, tmp_path, monkeypatch)

    def spoilt(method, key):
        return how if method == "GET" and key.endswith("a.npy") else None

    store.meddle = spoilt
    with pytest.raises(ConnectionError, match=r"^s3://bucket/.*/shards/a.npy: "):
        other.download()
    assert not (other.copy / "a.npy").exists()
    store.requests.clear()
    store.meddle = lambda method, key: spoilt(method, key) if len(store.keys("GET")) < 3 else None
    assert other.download()
    assert files.folder_hashes(other.copy) == files.folder_hashes(folder.copy)


def test_a_store_that_fails_now_and_then(folder, store, tmp_path, monkeypatch):
    store.meddle = lambda method, key: "refuse" if len(store.requests) % 2 else None
    folder.upload()
    assert elsewhere(folder, tmp_path, monkeypatch).download()


def test_a_store_that_fails_for_ever_is_an_error_in_time(folder, store):
    store.meddle = lambda method, key: "refuse"
    begin = time.monotonic()
    with pytest.raises(ConnectionError, match=f"^{folder}.sha256: "):
        folder.upload()
    assert time.monotonic() - begin < 30


def test_nobody_listens(folder, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:9")
    object_store.open_store.cache_clear()
    with pytest.raises(ConnectionError, match="Check the bucket's name and the credentials"):
        folder.upload()


def test_another_bucket(store):
    with pytest.raises(
        ConnectionError, match="^s3://other/shards.*bucket does not exist. Check the bucket's name and the credentials"
    ):
        remote_folder.open_remote_folder("s3://other/shards").download()


def test_without_credentials(folder, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://localhost:9")  # of the machine in the cloud
    object_store.open_store.cache_clear()
    begin = time.monotonic()
    with pytest.raises(ConnectionError, match="AWS_ACCESS_KEY_ID"):
        folder.upload()
    assert time.monotonic() - begin < 30


@pytest.mark.parametrize(
    "name", ["s3://", "s3://bucket", "s3://bucket/", "s3:///folder", "ftp://bucket/a", "s3://b/../c", "gs://b/a b"]
)
def test_addresses_that_are_none(name):
    with pytest.raises(ValueError, match="write gs://BUCKET/FOLDER or s3://BUCKET/FOLDER"):
        remote_folder.open_remote_folder(name)


@pytest.mark.parametrize("name", ["runs/mine", "/data", "C:/data", None, "google-bert/bert-base-uncased"])
def test_what_is_no_address_is_a_folder_here(name):
    assert remote_folder.open_remote_folder(name) is None


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "a//b", "..\\evil"])
def test_sums_that_lead_out_of_the_folder(store, name):
    store.write("evil.sha256", json.dumps({name: "0" * 64}).encode())
    store.write("evil/../evil", b"x")
    with pytest.raises(ValueError, match=r"s3://bucket/evil names .* not a file in its folder"):
        remote_folder.open_remote_folder("s3://bucket/evil").download()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": 1}', b"\xff\xfe"])
def test_sums_that_are_none(store, content):
    store.write("none.sha256", content)
    with pytest.raises(ValueError, match=r"s3://bucket/none.sha256"):
        remote_folder.open_remote_folder("s3://bucket/none").download()


def test_a_folder_that_others_put_there(store, tmp_path):
    """Without hashes, the files whose tags are new are downloaded."""
    remote = remote_folder.open_remote_folder("s3://bucket/foreign")
    assert not remote.download_loose()
    store.write("foreign/config.json", b"{}")
    store.write("foreign/pytorch_model.bin", b"no")

    def is_json(name):
        return name.endswith(".json")

    assert remote.download_loose(include=is_json)
    assert [path.name for path in remote.copy.iterdir()] == ["config.json"]
    store.requests.clear()
    assert remote.download_loose(include=is_json)
    assert "foreign/config.json" not in store.keys("GET")
    store.write("foreign/config.json", b"{1}")
    assert remote.download_loose(include=is_json)
    assert (remote.copy / "config.json").read_bytes() == b"{1}"


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "a//b", "..\\evil"])
def test_names_that_lead_out_of_the_folder(store, tmp_path, monkeypatch, name):
    remote = remote_folder.open_remote_folder("s3://bucket/names")
    monkeypatch.setattr(object_store.ObjectStore, "list_tags", lambda self, folder: {name: "tag"})
    with pytest.raises(ValueError, match=r"s3://bucket/names names .* not a file in its folder"):
        remote.download_loose()


def test_the_library_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ValueError, match=r"pip install 'distilbert_jax\[storage\]'"):
        remote_folder.open_remote_folder("gs://bucket/a").download()


def test_it_is_not_whole_before_its_first_file_is_removed(folder, store, tmp_path, monkeypatch):
    folder.upload()

    def removing():
        return [method for method, _ in store.requests if method in ("POST", "DELETE")]

    store.requests.clear()
    store.meddle = lambda method, key: "refuse" if method != "GET" and len(removing()) > 1 else None
    with pytest.raises(ConnectionError):
        folder.remove()
    assert names(folder) == ["a.npy", "b.npy", "deep/c"]
    assert not elsewhere(folder, tmp_path, monkeypatch).download()
    store.meddle = lambda method, key: None
    folder.remove()
    assert not names(folder)
    assert (folder.copy / "a.npy").is_file()  # the local copy stays
