"""What strangers can send a server: requests of every odd kind, and what comes back.

    python benchmarks/odd_requests.py                  100,000 requests
    python benchmarks/odd_requests.py --count 2000

A server of a small model runs as a process of its own.  Requests are drawn from a seed: every route
and method, altered pictures, clips and forms, odd headers, parameters and paths, and raw bytes that
are no HTTP.  Counted are answers by status, those of 500 and above that are not the 503 of a full
queue, answers that hold a path or a trace, and what the server's memory and open files grow by.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import http.client
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
from faults import mutated
from few_labels import HERE, commit, hardware, versions
from ports import free_port

COUNT, WARM_UP, CLIENTS = 100_000, 3_000, 4
LOOK = 20.0  # seconds between two looks at the memory
TABLE = HERE / "results" / "odd_requests.json"
ROUTES = (
    *("/v1/predict", "/v1/explain", "/v1/gallery/identify", "/v1/gallery/enroll", "/v1/gallery"),
    *("/v1/model", "/v1/run", "/v1/run/samples/0", "/health", "/metrics", "/openapi.json", "/"),
)
METHODS = ("GET", "POST", "POST", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "BREW")
ODD_PATHS = (
    *("/../../etc/passwd", "/v1/../../x", "/%2e%2e/%2e%2e/etc/passwd", "/v1/run/samples/-1"),
    *("/v1/run/samples/99999999999999999999", "/v1/run/samples/..%2f..%2fconfig.json", "//v1//"),
    *("/v1/predict/", "/%00", "/\xff", "/v1/model?x=" + "y" * 5000, "/http://example.com/"),
)
ODD_QUERIES = (
    *("top=0", "top=-1", "top=1e9", "top=NaN", "top=", "top=1&top=2", "method=__class__"),
    *(
        "method=gradients",
        "name=",
        "name=%00",
        "name=" + "n" * 300,
        "name=..%2F..%2Fx",
        "%",
        "&&&=",
    ),
)
ODD_HEADERS = (
    ("Content-Length", "-1"),
    ("Content-Length", "99999999999"),
    ("Content-Type", "multipart/form-data"),
    ("Content-Type", "multipart/form-data; boundary=x"),
    ("Content-Type", "application/json"),
    ("Content-Encoding", "gzip"),
    ("Transfer-Encoding", "chunked"),
    ("Host", "evil.example"),
    ("Authorization", "Bearer x"),
    ("X-Forwarded-For", "1.2.3.4"),
    ("Range", "bytes=0-1"),
    ("Expect", "100-continue"),
    ("Cookie", "a" * 4000),
    ("Sec-Fetch-Site", "cross-site"),
)
TELLS = (b"Traceback", b'File "', b"site-packages", b"/discern/", b"/tmp/")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    sys.path.insert(0, str(HERE.parent))
    with tempfile.TemporaryDirectory(prefix="discern-requests-") as home:
        corpus = seeds(Path(home))
        child, port = started(Path(home))
        process = psutil.Process(child.pid)
        many(port, -1, WARM_UP, corpus)  # what is loaded at first use is not a leak
        before = grown(process)
        began = time.monotonic()
        share = args.count // CLIENTS
        held, over = [before["memory"]], threading.Event()

        def look() -> None:
            while not over.wait(LOOK):
                held.append(grown(process)["memory"])

        watcher = threading.Thread(target=look)
        watcher.start()
        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
            parts = list(
                pool.map(
                    lambda number: many(port, args.seed * 1000 + number, share, corpus),
                    range(CLIENTS),
                )
            )
        seconds = time.monotonic() - began
        over.set()
        watcher.join()
        time.sleep(2)
        after = grown(process)
        lives = child.poll() is None and b"ok" in asked(port, "/health")
        child.terminate()
        child.wait(60)
    statuses: Counter[str] = sum((part["statuses"] for part in parts), Counter())
    findings = [line for part in parts for line in part["findings"]][:20]
    found = {
        "command": " ".join(["python", "benchmarks/odd_requests.py", *sys.argv[1:]]),
        "commit": commit(),
        "versions": versions(),
        "hardware": hardware(),
        "requests": sum(statuses.values()),
        "seconds": round(seconds, 1),
        "statuses": dict(sorted(statuses.items())),
        "faults": sum(part["faults"] for part in parts),
        "leaks": sum(part["leaks"] for part in parts),
        "findings": findings,
        "alive": lives,
        "memory_grown_bytes": after["memory"] - before["memory"],
        "memory_megabytes": [round(one / 2**20, 1) for one in held],
        "look_seconds": LOOK,
        "files_grown": after["files"] - before["files"],
        "threads_grown": after["threads"] - before["threads"],
    }
    TABLE.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def many(port: int, seed: int, count: int, corpus: list[bytes]) -> dict[str, Any]:
    """What one client sees of so many requests."""
    found: dict[str, Any] = {"statuses": Counter(), "faults": 0, "leaks": 0, "findings": []}
    for number in range(count):
        drawn = random.Random(f"{seed} {number}")
        status, answer = send(port, drawn, corpus)
        found["statuses"][status] += 1
        fault = status.isdigit() and int(status) >= 500 and not (status == "503" and busy(answer))
        leak = any(tell in answer for tell in TELLS) and not status.startswith("2")
        found["faults"] += fault
        found["leaks"] += leak
        if fault or leak:
            found["findings"].append(f"seed {seed} {number}: {status} {answer[:200]!r}")
    return found


def busy(answer: bytes) -> bool:
    """Whether a 503 is that of a full queue."""
    return b'"busy"' in answer or b'"slow"' in answer


def send(port: int, drawn: random.Random, corpus: list[bytes]) -> tuple[str, bytes]:
    """One odd request.  -> status, or what else happened, and the answer's body"""
    if drawn.random() < 0.1:
        return raw(port, drawn)
    path = drawn.choice(ROUTES) if drawn.random() < 0.85 else drawn.choice(ODD_PATHS)
    if drawn.random() < 0.4:
        path += "?" + drawn.choice(ODD_QUERIES)
    headers = dict(drawn.choice(ODD_HEADERS) for _ in range(drawn.choice((0, 0, 0, 1, 2))))
    body = drawn.choice(corpus)
    if drawn.random() < 0.6:
        body = mutated(body, drawn)
    if drawn.random() < 0.3:
        body, kind = form(body, drawn)
        headers.setdefault("Content-Type", kind)
    asks = path.partition("?")[0] in ROUTES[:4]
    method = drawn.choice(METHODS) if drawn.random() < 0.15 else "POST" if asks else "GET"
    if path.startswith("/v1/gallery?") and drawn.random() < 0.5:
        method = "DELETE"
    if method in ("GET", "HEAD") and drawn.random() < 0.8:
        body = b""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.putrequest(
            method, path.encode("latin-1").decode("latin-1"), skip_host="Host" in headers
        )
        for name, value in headers.items():
            connection.putheader(name, value)
        if "Content-Length" not in headers and "Transfer-Encoding" not in headers:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        connection.sock.settimeout(20 if "Content-Length" not in headers else 0.5)
        if body:
            connection.sock.sendall(body)
        if "Transfer-Encoding" in headers and "Content-Length" not in headers:
            connection.sock.sendall(b"0\r\n\r\n")
        answer = connection.getresponse()
        return str(answer.status), answer.read(200_000)
    except (OSError, http.client.HTTPException, ValueError, UnicodeError) as error:
        return f"no answer: {type(error).__name__}", b""
    finally:
        connection.close()


def raw(port: int, drawn: random.Random) -> tuple[str, bytes]:
    """Bytes that are hardly HTTP."""
    start = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n0123456789"
    data = mutated(start, drawn) if drawn.random() < 0.7 else drawn.randbytes(drawn.randrange(200))
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as one:
            one.settimeout(0.3)
            one.sendall(data)
            one.shutdown(socket.SHUT_WR)
            answer = one.recv(65536)
    except OSError as error:
        return f"no answer: {type(error).__name__}", b""
    words = answer.split(b" ", 2)
    has_status = len(words) > 1 and words[1][:3].isdigit()
    return (words[1][:3].decode() if has_status else "closed"), answer


def form(body: bytes, drawn: random.Random) -> tuple[bytes, str]:
    """A form with the body in it, whole or altered."""
    mark = b"--x" + drawn.randbytes(4).hex().encode()
    field = drawn.choice((b"file", b"file", b"File", b"", b"file\x00"))
    head = b'Content-Disposition: form-data; name="%s"; filename="../../x"' % field
    data = b"\r\n".join([mark, head, b"", body, mark + b"--", b""])
    data = mutated(data, drawn) if drawn.random() < 0.3 else data
    return data, f"multipart/form-data; boundary={mark[2:].decode()}"


def seeds(home: Path) -> list[bytes]:
    """A picture, a clip, and what is neither."""
    import numpy as np

    from discern.clip import Clip, Kind
    from discern.data.images import write_image
    from discern.data.videos import write_video

    pixels = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    for suffix in (".png", ".jpg", ".webp"):
        still = Clip(frames=pixels[:1], times=np.zeros(1), kind=Kind.IMAGE)
        write_image(still, home / f"a{suffix}")
    for suffix in (".mp4", ".gif"):
        moving = Clip(frames=pixels, times=np.arange(6) / 8, kind=Kind.CLIP)
        write_video(moving, home / f"a{suffix}")
    files = [one.read_bytes() for one in sorted(home.glob("a.*"))]
    return [*files, b"", b"hello", b'{"x": NaN, "y": [1, 2]}', b"\0" * 3000]


def started(home: Path) -> tuple[subprocess.Popen[bytes], int]:
    """A server with all that it can have: a gallery that may be written, and a run."""
    from tests.recipes.test_score import a_model

    model, run = a_model(home / "model"), home / "run"
    (run / "samples").mkdir(parents=True)
    (run / "config.json").write_text(json.dumps({"verb": "train"}))
    port = free_port()
    words = [sys.executable, "-m", "discern", "serve", str(model), "--port", str(port)]
    words += ["--gallery", str(home / "g"), "--may-enroll", "--watch", str(run)]
    log = open(home / "server.log", "wb")  # noqa: SIM115  # as long as the server
    child = subprocess.Popen(
        words, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    for _ in range(600):
        try:
            if b"ok" in asked(port, "/health"):
                return child, port
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the server does not start")


def asked(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def grown(process: psutil.Process) -> dict[str, int]:
    return {
        "memory": process.memory_info().rss,
        "files": process.num_fds(),
        "threads": process.num_threads(),
    }


if __name__ == "__main__":
    main()
