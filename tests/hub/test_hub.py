"""The real download code with a local server: a model, a dataset, and what the Hub does not have."""

import hashlib
import http.server
import json
import os
import pathlib
import subprocess
import sys
import threading

import pyarrow
import pyarrow.parquet
import pytest

from tests.conftest import ROOT

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.BaseHTTPRequestHandler):
    """The part of the Hub's protocol that a download needs. `root` holds models/ORG/NAME and datasets/ORG/NAME."""

    root: pathlib.Path
    requests: list[str] = []

    def do_HEAD(self):
        self.do_GET(body=False)

    def do_GET(self, body=True):
        path = self.path.split("?")[0].strip("/").split("/")
        type(self).requests.append(self.path)
        if path[0] == "api":
            return self._info(pathlib.Path(*path[1:4]), path[4:], body)
        kind = "datasets" if path[0] == "datasets" else "models"
        path = path[1:] if kind == "datasets" else path
        return self._file(self.root / kind / path[0] / path[1] / pathlib.Path(*path[4:]), body)

    def _info(self, repository, rest, body):
        folder = self.root / repository
        names = [str(p.relative_to(folder)) for p in sorted(folder.rglob("*")) if p.is_file()]
        if not names or (rest[:1] == ["revision"] and rest[1] not in ("main", COMMIT)):
            return self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound" if not names else "RevisionNotFound"}, body)
        if rest[:1] == ["tree"]:
            content = [{"type": "file", "path": n, "size": (folder / n).stat().st_size, "oid": COMMIT} for n in names]
        else:
            content = {
                "id": "/".join(repository.parts[1:]),
                "sha": COMMIT,
                "siblings": [{"rfilename": n} for n in names],
            }
        return self._answer(200, json.dumps(content).encode(), {"Content-Type": "application/json"}, body)

    def _file(self, path, body):
        if not path.is_file():
            return self._answer(404, b"", {"X-Error-Code": "EntryNotFound"}, body)
        content = path.read_bytes()
        etag = hashlib.sha256(content).hexdigest()
        return self._answer(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, body)

    def _answer(self, status, content, headers, body):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def hub(tmp_path_factory, bert_folder):
    """The environment variables for a Hub that has one model and one dataset."""
    root = tmp_path_factory.mktemp("hub")
    (root / "models" / "org").mkdir(parents=True)
    (root / "models" / "org" / "tiny").symlink_to(bert_folder)
    data = root / "datasets" / "org" / "texts" / "20231101.en"
    data.mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.table({"text": ["one", "two"]}), data / "train-00000-of-00001.parquet")
    (data.parent / "README.md").write_text("---\nlicense: cc-by-sa-3.0\n---\n")
    Hub.root = root
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home = tmp_path_factory.mktemp("home")
    settings = {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    yield os.environ | settings | {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "1"}
    server.shutdown()
    server.server_close()


def run_python(code, environment):
    """Returns the output of a Python process, or the last line of its errors."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


MODEL = """
from distilbert_jax.config.experiment import Pretrained
from distilbert_jax.hub.load import load_pretrained
model = load_pretrained(Pretrained({name!r}, revision={revision!r}))
print(model.hub_id, model.sha256)
"""


def test_a_model_is_downloaded_once_and_kept(hub, bert):
    code = MODEL.format(name="org/tiny", revision="main")
    assert run_python(code, hub) == f"org/tiny {bert.sha256}"
    downloads = sum("model.safetensors" in path for path in Hub.requests)
    assert downloads
    assert not any("README.md" in path and "resolve" in path for path in Hub.requests)  # only the necessary files
    assert run_python(code, hub) == f"org/tiny {bert.sha256}"
    assert run_python(code, hub | {"HF_HUB_OFFLINE": "1"}) == f"org/tiny {bert.sha256}"


def test_a_model_that_the_hub_does_not_have(hub):
    message = run_python(MODEL.format(name="org/none", revision="main"), hub)
    assert message.startswith(
        "ValueError: 'org/none' is not a folder on this machine, and cannot be downloaded from the Hub (revision main):"
    )
    message = run_python(MODEL.format(name="org/tiny", revision="v9"), hub)
    assert message.startswith(
        "ValueError: 'org/tiny' is not a folder on this machine, and cannot be downloaded from the Hub (revision v9):"
    )
    message = run_python(
        MODEL.format(name="org/tiny", revision="main"),
        hub | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": "/tmp/none"},
    )
    assert "cannot be downloaded from the Hub" in message
    assert "neither an existing folder nor a Hub id" in run_python(MODEL.format(name="a b?", revision="main"), hub)


DATASET = """
from distilbert_jax.data.sources.hub import HubDataset
source = HubDataset("org/texts", configuration="20231101.en")
print(list(source.documents()), source.license())
"""


def test_a_dataset_is_downloaded(hub):
    assert run_python(DATASET, hub) == "['one', 'two'] cc-by-sa-3.0"
