"""What a server still answers in time when twice as many ask as it can serve, beside LitServe.

    pip install litserve
    python benchmarks/overload.py

The same model, one picture a request, one process and one thread each.  First each server's own
capacity: as many answers a second as eight clients get that ask one after the other.  Then requests
come by the clock at half of that rate and at twice that rate, whether or not earlier ones were
answered (an open loop); what was answered within the deadline is goodput.  Servers take turns over
the rounds.  Discern's alone is then asked for ten times its capacity.  Beside it what each takes
from its start to its first answer, what memory of its own it then holds, and what the same answer
takes in a program of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import psutil
from few_labels import HERE, commit, hardware, interval, versions
from ports import free_port
from rounds import summary

TABLE = HERE / "results" / "overload.json"
DEADLINE = 1.0  # seconds
CLIENTS, WARM_UP = 8, 3.0
CROWD = 10  # times the capacity
BARE = 50  # answers without a server
# LitServe as its own page shows it: batches, a decoded item, a model's answer
PEER = """
import io, sys
import litserve as ls
import numpy as np
import torch
from discern.data.decode import decode
from discern.data.limits import Limits
from discern.predict import load, model_frames, preprocessing, look
from discern.data.loader import as_batch
torch.set_num_threads(1)

class Api(ls.LitAPI):
    def setup(self, device):
        self.bundle = load(sys.argv[1])
        self.size = preprocessing(self.bundle)
    def decode_request(self, request):
        data = request["file"].file.read()
        clip = decode(data, Limits(), frames=self.size.stored_frames, detail=self.size.detail)
        return model_frames(clip, self.size)
    def batch(self, inputs):
        return np.stack(inputs)
    def predict(self, frames):
        zero = np.zeros(len(frames), dtype=np.int64)
        found = look(self.bundle.model, [as_batch(frames, zero, zero)], head=False)
        return self.bundle.certainty.probabilities(found.logits.numpy())
    def unbatch(self, output):
        return list(output)
    def encode_response(self, row):
        best = int(row.argmax())
        return {"label": self.bundle.labels[best], "probability": float(row[best])}

if __name__ == "__main__":
    api = Api(max_batch_size=16, batch_timeout=0.004)
    server = ls.LitServer(api, accelerator="cpu", timeout=30)
    port = int(sys.argv[2])
    server.run(port=port, host="127.0.0.1", generate_client_file=False, log_level="error")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="Of each load.")
    args = parser.parse_args()
    sys.path.insert(0, str(HERE.parent))
    from untrained import untrained

    rows: dict[str, list[dict[str, float]]] = {"discern": [], "litserve": []}
    crowds: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="discern-overload-") as home:
        model, file = untrained(Path(home), side=64, patch=8)
        picture = file.read_bytes()
        # in a process of its own: torch's objects would slow this one's search for garbage
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
            bare = alone.submit(bare_seconds, model, file).result()
        for number in range(args.rounds):
            order = list(rows) if number % 2 == 0 else list(reversed(rows))
            for name in order:
                began = time.perf_counter()
                child, port = started(name, model, Path(home))
                try:
                    first_answer(name, port, picture)
                    idle = {
                        "first_answer_seconds": time.perf_counter() - began,
                        "megabytes": own_megabytes(child.pid),
                    }
                    found = idle | measured(name, port, picture, args.seconds)
                    rows[name].append(found)
                    if name == "discern":
                        rate = CROWD * found["capacity"]
                        crowds.append(loaded(name, port, picture, rate, args.seconds))
                        print("crowd", crowds[-1], flush=True)
                finally:
                    child.terminate()
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        child.wait(20)
                    with contextlib.suppress(ProcessLookupError):  # and all that it has started
                        os.killpg(child.pid, signal.SIGKILL)
                    child.wait()
                print(name, rows[name][-1], flush=True)
    pairs = zip(rows["discern"], rows["litserve"], strict=True)
    ratios = [mine["goodput"] / max(1e-9, its["goodput"]) for mine, its in pairs]
    import litserve

    found = {
        "command": " ".join(["python", "benchmarks/overload.py", *sys.argv[1:]]),
        "commit": commit(),
        "versions": versions() | {"litserve": litserve.__version__},
        "hardware": hardware(),
        "deadline_seconds": DEADLINE,
        "rounds": rows,
        "goodput": {n: statistics.median(r["goodput"] for r in one) for n, one in rows.items()},
        "capacity": {n: statistics.median(r["capacity"] for r in one) for n, one in rows.items()},
        "times_as_much": summary(ratios),
        "bare_seconds": bare,
        "medians": {
            name: {
                key: statistics.median(row[key] for row in one)
                for key in ("half_p99_seconds", "first_answer_seconds", "megabytes")
            }
            for name, one in rows.items()
        },
        "crowd": {
            "times": CROWD,
            "rounds": crowds,
            "goodput_of_capacity": interval(
                [
                    one["goodput"] / row["capacity"]
                    for one, row in zip(crowds, rows["discern"], strict=True)
                ]
            ),
            "refused_p99_seconds": statistics.median(one["refused_p99_seconds"] for one in crowds),
        },
    }
    TABLE.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def started(name: str, model: Path, home: Path) -> tuple[subprocess.Popen[bytes], int]:
    port = free_port()
    words = [sys.executable, "-m", "discern", "serve", str(model), "--port", str(port)]
    if name == "litserve":
        (home / "peer.py").write_text(PEER)
        words = [sys.executable, str(home / "peer.py"), str(model), str(port)]
    log = open(home / f"{name}.log", "wb")  # noqa: SIM115  # as long as the server
    paths = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    child = subprocess.Popen(words, stdout=log, stderr=log, env=env, start_new_session=True)
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
            return child, port
        except OSError:
            if child.poll() is not None:
                raise SystemExit((home / f"{name}.log").read_text()[-2000:]) from None
            time.sleep(0.1)
    raise SystemExit(f"{name} does not start")


def measured(name: str, port: int, picture: bytes, seconds: float) -> dict[str, float]:
    """Capacity, then how late answers are at half of that rate, and those in time at twice it."""
    closed(name, port, picture, WARM_UP)
    capacity = closed(name, port, picture, seconds)
    half = loaded(name, port, picture, capacity / 2, seconds)["p99_seconds"]
    twice = loaded(name, port, picture, 2 * capacity, seconds)
    return {"capacity": capacity, "half_p99_seconds": half, **twice}


def first_answer(name: str, port: int, picture: bytes) -> None:
    """Wait for it: a port may be open before there is a model."""
    crowd = Crowd(port, asked(name, port, picture))
    while not crowd.answered:
        if not crowd.waiting:
            crowd.ask(time.perf_counter())
        crowd.look(0.01)


def own_megabytes(process: int) -> float:
    """Memory that a program and those that it started share with no other."""
    family = [psutil.Process(process), *psutil.Process(process).children(recursive=True)]
    return sum(one.memory_full_info().uss for one in family) / 2**20


def bare_seconds(model: Path, file: Path) -> float:
    """From the bytes of a picture to its answer in this program, one thread; the median."""
    import torch

    from discern.data.decode import decode
    from discern.data.limits import Limits
    from discern.data.loader import as_batch
    from discern.predict import load, look, model_frames, preprocessing

    torch.set_num_threads(1)
    bundle = load(model)
    size, zero, picture = preprocessing(bundle), np.zeros(1, dtype=np.int64), file.read_bytes()
    taken = []
    for _ in range(BARE):
        began = time.perf_counter()
        clip = decode(picture, Limits(), frames=size.stored_frames, detail=size.detail)
        found = look(
            bundle.model, [as_batch(model_frames(clip, size)[None], zero, zero)], head=False
        )
        bundle.certainty.probabilities(found.logits.numpy())
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def loaded(name: str, port: int, picture: bytes, rate: float, seconds: float) -> dict[str, float]:
    """Answers in time when so many a second come, and how soon others are refused."""
    crowd = Crowd(port, asked(name, port, picture))
    began = time.perf_counter()
    dues = deque(began + number / rate for number in range(round(rate * seconds)))
    while dues or crowd.waiting:
        now = time.perf_counter()
        while dues and dues[0] <= now:
            crowd.ask(dues.popleft())
        crowd.look(min(0.05, max(0.0, dues[0] - time.perf_counter())) if dues else 0.05)
    good = [took for took in crowd.answered if took <= DEADLINE]
    return {
        "asked": rate,
        "goodput": len(good) / seconds,
        "answered_in_time": len(good) / max(1, round(rate * seconds)),
        "p99_seconds": late(good),
        "refused_p99_seconds": late(crowd.refused),
    }


def late(seconds: list[float]) -> float:
    """What 99 of 100 are below."""
    return sorted(seconds)[int(0.99 * len(seconds))] if seconds else 0.0


def asked(name: str, port: int, picture: bytes) -> bytes:
    """A whole request as bytes, so that the client costs little."""
    path = "/v1/predict" if name == "discern" else "/predict"
    mark = b"xxxxxxxxxxxx"
    head = b'Content-Disposition: form-data; name="file"; filename="x.jpg"'
    kind = b"Content-Type: image/jpeg"
    body = b"\r\n".join([b"--" + mark, head, kind, b"", picture, b"--" + mark + b"--", b""])
    lines = [
        f"POST {path} HTTP/1.1".encode(),
        f"Host: 127.0.0.1:{port}".encode(),
        b"Content-Type: multipart/form-data; boundary=" + mark,
        f"Content-Length: {len(body)}".encode(),
        b"Connection: close",
        b"",
        b"",
    ]
    return b"\r\n".join(lines) + body


def closed(name: str, port: int, picture: bytes, seconds: float) -> float:
    """Answers a second to clients that ask one after the other."""
    crowd = Crowd(port, asked(name, port, picture))
    end = time.perf_counter() + seconds
    while (now := time.perf_counter()) < end:
        while len(crowd.waiting) < CLIENTS:
            crowd.ask(now)
        crowd.look(0.05)
    return len(crowd.answered) / seconds


class Crowd:
    """Many who ask at once, each in a connection of its own; cheap, to leave the server its time.

    Times count from when a request was due.
    """

    def __init__(self, port: int, request: bytes) -> None:
        self.answered: list[float] = []
        self.refused: list[float] = []
        self.waiting: dict[int, tuple[socket.socket, float, bytearray]] = {}
        self._where, self._request = ("127.0.0.1", port), request
        self._poll = select.epoll()

    def ask(self, due: float) -> None:
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(self._where)
        self.waiting[one.fileno()] = one, due, bytearray()
        self._poll.register(one.fileno(), select.EPOLLOUT)

    def look(self, seconds: float) -> None:
        """What has happened, for at most so long."""
        for place, event in self._poll.poll(seconds):
            one, due, answer = self.waiting[place]
            try:
                if event & select.EPOLLOUT:
                    one.sendall(self._request)  # it fits the socket's buffer
                    self._poll.modify(place, select.EPOLLIN)
                    continue
                more = one.recv(65536)
            except OSError:
                more = b""
            answer += more
            if not more:
                self._end(place)
        now = time.perf_counter()
        for place, (_, due, _) in list(self.waiting.items()):
            if now - due <= 5 * DEADLINE:
                break  # later ones are younger
            self._end(place, given_up=True)

    def _end(self, place: int, *, given_up: bool = False) -> None:
        one, due, answer = self.waiting.pop(place)
        self._poll.unregister(place)
        one.close()
        if answer and not given_up:
            took = time.perf_counter() - due
            (self.answered if answer.split(b" ", 2)[1:2] == [b"200"] else self.refused).append(took)


if __name__ == "__main__":
    main()
