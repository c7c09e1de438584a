"""An object store that is really run, and somebody between it and us who meddles."""

import contextlib
import http.client
import http.server
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator

BUCKET = "bucket"
SOMEBODY = "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


class Store:
    """A server of S3 with one bucket (gs:// takes the same requests), reached through a proxy that writes down every
    request and may spoil it.

    `meddle(method, key)` says how: "refuse" (503), "flip" (a byte of what is read), "cut" (the answer ends too early),
    or None.
    """

    def __init__(self, port: int):
        self._port = port
        self.requests: list[tuple[str, str]] = []
        self.meddle: Callable[[str, str], str | None] = lambda method, key: None
        store = self

        class Proxy(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_any(self):
                store._answer(self)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_any

            def log_message(self, *args):
                pass

        self.proxy = http.server.ThreadingHTTPServer(("localhost", 0), Proxy)
        self.proxy.daemon_threads = True
        threading.Thread(target=self.proxy.serve_forever, daemon=True).start()

    def environment(self, cache: pathlib.Path) -> dict[str, str]:
        """Of a machine whose copies are in `cache`."""
        return {
            "AWS_ENDPOINT_URL": f"http://localhost:{self.proxy.server_port}",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(
                dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
                | {"gcs_base_url": f"http://localhost:{self.proxy.server_port}", "disable_oauth": True}
            ),
            "XDG_CACHE_HOME": str(cache),
        }

    def keys(self, method: str) -> list[str]:
        """Of all requests of this kind, in their order."""
        return [key for asked, key in self.requests if asked == method]

    def read(self, key: str) -> bytes:
        return self._ask("GET", f"/{BUCKET}/{key}")[1]

    def write(self, key: str, content: bytes) -> None:
        self._ask("PUT", f"/{BUCKET}/{key}", content)

    def _ask(self, method: str, path: str, body: bytes | None = None, headers=None):
        connection = http.client.HTTPConnection("localhost", self._port, timeout=60)
        connection.request(method, path, body, headers or {"Authorization": SOMEBODY})
        answer = connection.getresponse()
        return answer, answer.read()

    def _answer(self, request) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        key = urllib.parse.unquote(request.path.partition("?")[0]).removeprefix(f"/{BUCKET}").lstrip("/")
        self.requests.append((request.command, key))
        how = self.meddle(request.command, key)
        if how == "refuse":
            request.send_response(503)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        headers = {"Authorization": SOMEBODY} | dict(request.headers)  # the server wants somebody
        answer, content = self._ask(request.command, request.path, body, headers)
        stated = len(content)
        if how == "flip" and content:
            content = bytes([content[0] ^ 1]) + content[1:]
        if how == "cut":
            content = content[: stated // 2]
        request.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                request.send_header(name, value)
        length = answer.getheader("Content-Length") if request.command == "HEAD" else stated
        request.send_header("Content-Length", str(length))
        request.end_headers()
        request.wfile.write(content)
        if how == "cut":
            request.connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def serve() -> Iterator[Store]:
    """A store with an empty bucket."""
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with subprocess.Popen(command, env=os.environ | {"PYTHONWARNINGS": "ignore"}, **quiet) as server:
        try:
            _create(f"http://127.0.0.1:{port}/{BUCKET}")
            yield Store(port)
        finally:
            server.kill()


def _create(bucket: str) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(urllib.request.Request(bucket, method="PUT"))
            return
        time.sleep(0.1)
    raise AssertionError("the store's server does not answer")
