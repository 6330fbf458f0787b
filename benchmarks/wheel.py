"""From the built wheel to an answer on the page: an empty environment, and the lines of README.

    make release && python benchmarks/wheel.py [--minutes 1] [--out FOLDER]

Makes a virtual environment, installs the wheel of `dist/release/` with its `serve` extra from
whatever package index pip is set to, tunes the weights that ship on 100 pictures of each class of
Tiny-ImageNet's vehicles, serves, and asks for the page and for the name of a picture.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from few_labels import HERE, commit, hardware, unpacked
from ports import free_port

WHEEL = next(iter(sorted((HERE.parent / "dist" / "release").glob("discern-*.whl"))), None)
TO_REACH = 300.0  # seconds in all
PATIENCE = 120.0  # seconds until the service must answer
WEIGHTS = "discern/weights/"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=1.0, help="of tuning")
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    args = parser.parse_args()
    if WHEEL is None:
        parser.error("no wheel in dist/release: `make release` first")
    folder = unpacked("tiny_imagenet_vehicles", args.out, per_class=100).resolve()
    home = (args.out / "wheel").resolve()
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    seconds: dict[str, float] = {}
    bin_ = home / "venv" / "bin"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*words: str) -> None:
        subprocess.run(words, check=True, cwd=home, env=env, stdout=subprocess.DEVNULL)

    with timed(seconds, "a virtual environment and pip install"):
        venv.create(home / "venv", with_pip=True)
        run(str(bin_ / "python"), "-m", "pip", "install", "-q", f"{WHEEL}[serve]")
    with timed(seconds, "discern train --from discern-nano"):
        words = ["--from", "discern-nano", "--out", "tuned", "--minutes", f"{args.minutes:g}"]
        run(str(bin_ / "discern"), "train", str(folder), *words)
    port = free_port()
    with timed(seconds, "discern serve, until the page and an answer are there"):
        words = [str(bin_ / "discern"), "serve", "tuned", "--port", str(port)]
        server = subprocess.Popen(words, cwd=home, env=env, stderr=subprocess.DEVNULL)
        try:
            page, answer = asked(port, next((folder / "test").rglob("*.*")))
        finally:
            server.terminate()
            server.wait()
    accuracy = json.loads((home / "tuned" / "results.json").read_text())["accuracy"]
    found = {
        "command": " ".join(["python", "benchmarks/wheel.py", *sys.argv[1:]]).replace(
            str(args.out), "OUT"
        ),
        "commit": commit(),
        "hardware": hardware(),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "total_seconds": round(sum(seconds.values()), 1),
        "to_reach": TO_REACH,
        "reached": sum(seconds.values()) <= TO_REACH,
        "page_bytes": len(page),
        "answer": answer,
        "accuracy": accuracy,
        "megabytes": megabytes(),
        "installed": installed(bin_ / "python"),
    }
    (HERE / "results" / "wheel.json").write_text(json.dumps(found, indent=1) + "\n")
    shutil.rmtree(home / "venv")
    print(json.dumps({k: found[k] for k in ("seconds", "total_seconds", "answer", "megabytes")}))


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    seconds[name] = time.monotonic() - started
    print(name, round(seconds[name], 1), flush=True)


def asked(port: int, picture: Path) -> tuple[bytes, Any]:
    """The page, and what it would show of a picture, as soon as the service gives them."""
    home, deadline = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(home + "/", timeout=5) as reply:
                page = reply.read()
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    assert b"<html" in page
    body = picture.read_bytes()
    kind = {"Content-Type": "application/octet-stream"}
    request = urllib.request.Request(home + "/v1/predict", body, kind)
    with urllib.request.urlopen(request, timeout=60) as reply:
        return page, json.loads(reply.read())


def megabytes() -> dict[str, float]:
    """Of the wheel, with and without the weights in it, as they lie there."""
    from zipfile import ZipFile

    assert WHEEL is not None
    with ZipFile(WHEEL) as wheel:
        weights = [one.compress_size for one in wheel.infolist() if WEIGHTS in one.filename]
    whole = WHEEL.stat().st_size
    return {"whole": round(whole / 2**20, 2), "code": round((whole - sum(weights)) / 2**20, 2)}


def installed(python: Path) -> dict[str, str]:
    """The packages whose versions decide how long it takes."""
    words = [str(python), "-m", "pip", "list", "--format=json", "--disable-pip-version-check"]
    every = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
    wanted = ("torch", "numpy", "fastapi", "uvicorn")
    return {one["name"]: one["version"] for one in every if one["name"] in wanted}


if __name__ == "__main__":
    main()
