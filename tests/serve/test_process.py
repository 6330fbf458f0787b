"""The server as a process: it starts, answers, closes the slow, and drains at its end."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve.test_app import model as model  # the fixture
from tests.serve.test_app import png

pytest.importorskip("uvicorn", reason="uvicorn is missing: pip install 'discern[serve]'")
ROOT = Path(__file__).parent.parent.parent


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def serving(model: Path, *more: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server of its own process, and its port."""
    port = _free_port()
    words = [sys.executable, "-m", "discern", "serve", str(model), "--port", str(port), *more]
    child = subprocess.Popen(
        words,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", port), 0.2).close()
                break
            except OSError:
                assert child.poll() is None, child.stdout and child.stdout.read()
                time.sleep(0.1)
        yield child, port
    finally:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


@pytest.fixture
def server(model: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    with serving(model) as one:
        yield one


def _ask(port: int, timeout: float = 20) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/predict", png(), method="POST")
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        assert json.loads(answer.read())["label"] in "abc"
        return int(answer.status)


def test_sigterm_loses_no_request_that_was_accepted(
    server: tuple[subprocess.Popen[bytes], int],
) -> None:
    child, port = server
    assert _ask(port) == 200
    answers: list[object] = []
    lock = threading.Lock()

    def work() -> None:
        while True:
            try:
                status: object = _ask(port)
            except ConnectionRefusedError:
                return
            except OSError as error:
                refused = isinstance(getattr(error, "reason", None), ConnectionRefusedError)
                if refused:
                    return
                status = error
            with lock:
                answers.append(status)
            if status != 200:
                return

    threads = [threading.Thread(target=work) for _ in range(8)]
    for one in threads:
        one.start()
    time.sleep(1.0)
    started = time.monotonic()
    child.send_signal(signal.SIGTERM)
    for one in threads:
        one.join(30)
    child.wait(30)
    assert time.monotonic() - started < 30
    lost = [one for one in answers if one != 200]
    # a connection that the kernel had taken, and the server not yet, is closed unanswered
    assert len(answers) > 20 and len(lost) <= len(threads), lost
    assert not any("500" in str(one) or "503" in str(one) for one in lost)


@pytest.mark.slow
def test_half_open_requests_are_closed(server: tuple[subprocess.Popen[bytes], int]) -> None:
    _, port = server
    begun = (b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nX-", b"")
    held = []
    for number in range(60):
        one = socket.create_connection(("127.0.0.1", port), 5)
        one.sendall(begun[number % 2])
        held.append(one)
    body = socket.create_connection(("127.0.0.1", port), 5)
    body.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc")
    started = time.monotonic()
    assert _ask(port) == 200 and time.monotonic() - started < 2  # others are served meanwhile
    for one in held:
        one.settimeout(14)
        assert one.recv(100) == b""
        one.close()
    body.settimeout(14)
    assert b" 408 " in body.recv(200).splitlines()[0] + b" "
    body.close()
    assert time.monotonic() - started < 14


def test_what_is_no_server_says_so(model: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for words, told in (
        (["serve", str(model), "--host", "0.0.0.0"], "--token-file"),
        (["serve", str(model), "--tls-cert", str(model / "labels.json")], "go together"),
        (["serve", "missing"], "no such"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "discern", *words],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 2 and told in done.stderr, done.stderr


def test_connections_send_a_crowd_away_before_anything_is_parsed(model: Path) -> None:
    import uvicorn

    from discern.serve.door import Door
    from discern.serve.settings import ServeConfig
    from discern.serve.start import guarded

    app = guarded(ServeConfig(model=str(model)))
    assert gc.get_freeze_count() > 10_000  # what is loaded is not searched for garbage again
    app.state.gate.room.most = 0
    config = uvicorn.Config(app, port=_free_port(), http=Door, log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        for _ in range(200):
            if server.started:
                break
            time.sleep(0.05)
        request = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"
        with socket.create_connection(("127.0.0.1", config.port), 10) as one:
            one.sendall(request)
            answer = one.makefile("rb").read()  # to its end: the connection is closed
        assert answer.startswith(b"HTTP/1.1 503 ") and b"connection: close" in answer.lower()
        # the gate inside of the service would have told another route
        assert dict(app.state.metrics.requests) == {("/v1/predict", 503): 1}
        whole = request.replace(b"/v1/predict", b"/v1/nothing")
        with socket.create_connection(("127.0.0.1", config.port), 10) as one:
            one.sendall(whole)
            assert one.recv(100).startswith(b"HTTP/1.1 404 ")
    finally:
        server.should_exit = True
        thread.join(20)
        Door.gate = None
        gc.unfreeze()
