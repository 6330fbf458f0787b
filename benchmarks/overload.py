"""What a server still answers in time when twice as many ask as it can serve, beside LitServe.

    pip install litserve
    python benchmarks/overload.py

The same model, one picture a request, one process and one thread each.  First each server's own
capacity: as many answers a second as eight clients get that ask one after the other.  Then requests
come by the clock at twice that rate, whether or not earlier ones were answered (an open loop);
what was answered within the deadline is goodput.  Servers take turns over the rounds.  Discern's
alone is then asked for ten times its capacity.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from few_labels import HERE, commit, hardware, interval, versions

TABLE = HERE / "results" / "overload.json"
DEADLINE = 1.0  # seconds
CLIENTS, WARM_UP = 8, 3.0
CROWD = 10  # times the capacity
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
        for number in range(args.rounds):
            order = list(rows) if number % 2 == 0 else list(reversed(rows))
            for name in order:
                child, port = started(name, model, Path(home))
                try:
                    found = asyncio.run(measured(name, port, picture, args.seconds))
                    rows[name].append(found)
                    if name == "discern":
                        rate = CROWD * found["capacity"]
                        crowds.append(asyncio.run(loaded(name, port, picture, rate, args.seconds)))
                finally:
                    child.terminate()
                    try:
                        child.wait(20)
                    except subprocess.TimeoutExpired:
                        child.kill()
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
        "times_as_much": interval(ratios),
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
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = int(one.getsockname()[1])
    words = [sys.executable, "-m", "discern", "serve", str(model), "--port", str(port)]
    if name == "litserve":
        (home / "peer.py").write_text(PEER)
        words = [sys.executable, str(home / "peer.py"), str(model), str(port)]
    log = open(home / f"{name}.log", "wb")  # noqa: SIM115  # as long as the server
    paths = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    child = subprocess.Popen(words, stdout=log, stderr=log, env=env)
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
            return child, port
        except OSError:
            if child.poll() is not None:
                raise SystemExit((home / f"{name}.log").read_text()[-2000:]) from None
            time.sleep(0.1)
    raise SystemExit(f"{name} does not start")


async def measured(name: str, port: int, picture: bytes, seconds: float) -> dict[str, float]:
    """Capacity, then answers in time at twice that rate."""
    request = asked(name, port, picture)
    await closed(port, request, WARM_UP)
    capacity = await closed(port, request, seconds)
    return {"capacity": capacity, **await loaded(name, port, picture, 2 * capacity, seconds)}


async def loaded(
    name: str, port: int, picture: bytes, rate: float, seconds: float
) -> dict[str, float]:
    """Answers in time when so many a second come, and how soon others are refused."""
    request = asked(name, port, picture)
    times: list[float | None] = []
    refused: list[float] = []
    waiting = []
    started_at = time.perf_counter()
    for number in range(round(rate * seconds)):
        due = started_at + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        waiting.append(asyncio.create_task(one(port, request, due, times, refused)))
    await asyncio.gather(*waiting)
    good = [took for took in times if took is not None and took <= DEADLINE]
    return {
        "asked": rate,
        "goodput": len(good) / seconds,
        "answered_in_time": len(good) / max(1, len(times)),
        "p99_seconds": sorted(good)[int(0.99 * len(good))] if good else 0.0,
        "refused_p99_seconds": sorted(refused)[int(0.99 * len(refused))] if refused else 0.0,
    }


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


async def closed(port: int, request: bytes, seconds: float) -> float:
    """Answers a second to clients that ask one after the other."""
    times: list[float | None] = []
    end = time.perf_counter() + seconds

    async def client() -> None:
        while time.perf_counter() < end:
            await one(port, request, time.perf_counter(), times, [])

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return sum(took is not None for took in times) / seconds


async def one(
    port: int, request: bytes, due: float, times: list[float | None], refused: list[float]
) -> None:
    """Ask once; the time counts from when the request was due."""
    took = None
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        answer = await asyncio.wait_for(reader.read(), 5 * DEADLINE)
        writer.close()
        if answer.split(b" ", 2)[1:2] == [b"200"]:
            took = time.perf_counter() - due
        elif answer:
            refused.append(time.perf_counter() - due)
    except (TimeoutError, OSError):
        pass
    times.append(took)


if __name__ == "__main__":
    main()
