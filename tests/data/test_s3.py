"""Sources in an S3 bucket: a server process on this machine, reached through s3fs as any other is.

Needs s3fs and moto's server: pip install s3fs 'moto[server]'.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from discern.cli import main
from discern.data.sources import open_source
from tests.faults.killing import write_pictures

s3fs = pytest.importorskip("s3fs", reason="s3fs is missing: pip install s3fs 'moto[server]'")
pytest.importorskip("moto", reason="moto is missing: pip install s3fs 'moto[server]'")
pytestmark = pytest.mark.slow


class Faulty(BaseHTTPRequestHandler):
    """Hands requests on to the real server; every so often it fails as a busy store does."""

    protocol_version = "HTTP/1.1"  # the client waits for "100 Continue"
    behind = 0  # port of the real server
    every = 0  # of the GET requests, one in so many fails; 0: none
    asked = 0
    failed = 0

    def _hand_on(self) -> None:
        kind = type(self)
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.command == "GET" and "list-type" not in self.path:
            kind.asked += 1
            if kind.every and kind.asked % kind.every == 0:
                kind.failed += 1
                if kind.failed % 2:
                    self.send_error(503, "Slow Down")
                else:
                    self.close_connection = True  # without an answer
                return
        headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
        url = f"http://127.0.0.1:{kind.behind}{self.path}"
        request = urllib.request.Request(url, body or None, headers, method=self.command)
        try:
            with urllib.request.urlopen(request) as answer:
                self._answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            self._answer(error.code, error.headers, error.read())

    def _answer(self, status: int, headers: Any, body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                self.send_header(name, value)
        length = headers.get("content-length") if self.command == "HEAD" else len(body)
        self.send_header("Content-Length", str(length or 0))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _hand_on

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, type[Faulty]]]:
    """A bucket `photos` behind a server that can be told to fail."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    env = {**os.environ, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    child = subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    handler: type[Faulty] = type("Handler", (Faulty,), {"behind": port})
    front = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=front.serve_forever, daemon=True).start()
    try:
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", port), 0.2).close()
                break
            except OSError:
                time.sleep(0.1)
        url = f"http://127.0.0.1:{front.server_address[1]}"
        for name, value in (
            ("AWS_ACCESS_KEY_ID", "x"),
            ("AWS_SECRET_ACCESS_KEY", "x"),
            ("AWS_ENDPOINT_URL", url),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required"),
            ("XDG_CACHE_HOME", str(tmp_path / "cache")),
        ):
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        fs = s3fs.S3FileSystem(endpoint_url=f"http://127.0.0.1:{port}")  # past the faults
        fs.mkdir("photos")
        yield fs, handler
    finally:
        front.shutdown()
        front.server_close()
        child.kill()
        child.wait()


def test_folders_and_shards_in_a_bucket(bucket: tuple[Any, type[Faulty]], tmp_path: Path) -> None:
    fs, _ = bucket
    data = write_pictures(tmp_path / "data", 20, 8)
    for path in data.rglob("*.png"):
        fs.put(str(path), f"photos/set/{path.relative_to(data)}")
    local, far = open_source([str(data)]), open_source(["s3://photos/set"])
    assert [(i.key, i.labels) for i in far.items] == [(i.key, i.labels) for i in local.items]
    assert [far.read(i) for i in range(20)] == [local.read(i) for i in range(20)]
    shards = tmp_path / "shards"
    assert main(["data", "convert", str(data), str(shards), "--to", "tfrecord"]) == 0
    for path in shards.iterdir():
        fs.put(str(path), f"photos/shards/{path.name}")
    packed = open_source(["s3://photos/shards/*.tfrecord"])
    assert len(packed) == 20 and packed.classes == ["dark", "light"]
    assert sorted(packed.read(i) for i in range(20)) == sorted(local.read(i) for i in range(20))


def test_a_store_that_fails_now_and_then_is_read_whole(
    bucket: tuple[Any, type[Faulty]], tmp_path: Path
) -> None:
    fs, handler = bucket
    data = write_pictures(tmp_path / "data", 24, 8)
    for path in data.rglob("*.png"):
        fs.put(str(path), f"photos/set/{path.relative_to(data)}")
    handler.every = 5
    far, local = open_source(["s3://photos/set"]), open_source([str(data)])
    assert [far.read(i) for i in range(24)] == [local.read(i) for i in range(24)]
    assert handler.failed >= 4


def test_a_training_from_a_bucket(bucket: tuple[Any, type[Faulty]], tmp_path: Path) -> None:
    fs, handler = bucket
    data = write_pictures(tmp_path / "data", 40, 8)
    for path in data.rglob("*.png"):
        fs.put(str(path), f"photos/set/{path.relative_to(data)}")
    handler.every = 9
    words = ["train", "s3://photos/set", "--out", str(tmp_path / "run"), "--steps", "2"]
    small = ("backbone.width=32", "backbone.depth=1", "backbone.heads=2", "precision=fp32")
    assert main([*words, *(w for one in small for w in ("--set", one))]) == 0
    assert not (tmp_path / "run" / "bad_files.jsonl").exists()
    assert main(["data", "check", "s3://nowhere/x"]) != 0
