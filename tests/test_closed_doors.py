"""No verb opens a door that it should not: an audit hook listens while all of them work.

Python tells its hooks of every unpickling, every socket and every program that is started, whoever
does it (PEP 578), so that what a library does on our behalf counts too.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

LISTENER = """
import json, pathlib, sys

TOLD = {"pickle.find_class", "socket.connect", "socket.bind", "socket.getaddrinfo",
        "urllib.Request", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen"}
heard = []

def listen(name, words):
    # platform asks `uname` what processor this is
    if name in TOLD and not (name == "subprocess.Popen" and words[0] == "uname"):
        heard.append([name, repr(words)[:120]])

sys.addaudithook(listen)

from discern.cli import main
from tests.faults.killing import TINY, write_pictures

home = pathlib.Path(sys.argv[1])
data = str(write_pictures(home / "data", 40, 16))
file = str(next((home / "data" / "dark").iterdir()))
small = [word for setting in TINY for word in ("--set", setting)]
plain = ["--set", "precision=fp32", "--set", "threads=1"]
runs = {name: str(home / name) for name in ("p", "t", "n", "e", "a", "c")}
keys = str(home / "key")
lines = [
    ["pretrain", data, "--out", runs["p"], "--steps", "2", *small],
    ["train", data, "--from", runs["p"], "--out", runs["t"], "--steps", "2", *plain],
    ["train", data, "--from", "discern-nano", "--out", runs["n"], "--steps", "2", *plain],
    ["predict", runs["t"], file],
    ["evaluate", runs["t"], data, "--out", runs["e"]],
    ["explain", runs["t"], file, "--out", str(home / "why.png")],
    ["generate", runs["p"], "--count", "2", "--out", str(home / "made.png")],
    ["reconstruct", runs["p"], file, "--out", str(home / "again.png")],
    ["attack", runs["t"], data, "--items", "2", "--steps", "1", "--out", runs["a"]],
    ["data", "check", data],
    ["data", "convert", data, runs["c"], "--to", "tfrecord"],
    ["seal", "keygen", "--out", keys],
    ["seal", "sign", runs["t"], "--key", keys],
    ["gallery", "enroll", str(home / "g"), "someone", file, "--model", runs["t"]],
    ["gallery", "identify", str(home / "g"), file, "--model", runs["t"]],
    ["doctor"],
]
if sys.argv[2] == "export":
    lines.append(["export", runs["t"], "--to", "onnx", "--out", str(home / "o")])
    lines.append(["predict", str(home / "o"), file])
codes = [main(line) for line in lines]
if sys.argv[2] == "a pickle":  # the listener hears
    import pickle
    pickle.loads(pickle.dumps(pathlib.Path("x")))
print(json.dumps({"codes": codes, "lines": [" ".join(line[:2]) for line in lines], "heard": heard}))
"""


def _heard(home: Path, more: str) -> dict[str, list[object]]:
    words = [sys.executable, "-c", LISTENER, str(home), more]
    done = subprocess.run(words, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.timeout(300)
def test_no_verb_unpickles_calls_out_or_starts_programs(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    found = _heard(tmp_path, "export")
    assert not [
        line
        for line, code in zip(found["lines"], found["codes"], strict=True)
        if code not in (0, 3)
    ]
    assert found["heard"] == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_listener_hears(tmp_path: Path) -> None:
    (event, _), *_ = _heard(tmp_path, "a pickle")["heard"]  # type: ignore[misc]
    assert event == "pickle.find_class"
