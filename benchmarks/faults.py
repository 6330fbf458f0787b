"""What faults cost: kills, flipped bits, altered signed models, rubbish for every reader.

    python benchmarks/faults.py                      all of it, at the sizes below
    python benchmarks/faults.py --parts fuzz --scale 0.01

kills      trainings killed at random moments, half of them inside a save: checkpoints lost, and
           whether the resumed run is, bit for bit, the run that nobody disturbed
flips      one bit of a checkpoint, a model or a TFRecord turned: whether reading it says so
mutations  a signed model, altered in any of its files: whether it is accepted
fuzz       altered images, clips, TFRecords, Examples, manifests, models and galleries: whether any
           does more than be refused; time and memory of each

Everything is drawn from a seed, so that a finding can be had again.  Writes results/faults.json.
"""

from __future__ import annotations

from discern.threads import prepare_threads, set_threads

prepare_threads()

import argparse  # noqa: E402
import csv  # noqa: E402
import hashlib  # noqa: E402
import json  # noqa: E402
import math  # noqa: E402
import os  # noqa: E402
import random  # noqa: E402
import resource  # noqa: E402
import shutil  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from few_labels import HERE, commit, hardware, versions  # noqa: E402

sys.path.insert(0, str(HERE.parent))

from discern import config as configuration  # noqa: E402
from discern.clip import Clip, Kind  # noqa: E402
from discern.data.decode import decode  # noqa: E402
from discern.data.example import encode_example, parse_example  # noqa: E402
from discern.data.images import write_image  # noqa: E402
from discern.data.limits import Limits  # noqa: E402
from discern.data.manifests import read_manifest  # noqa: E402
from discern.data.sampling import Detail  # noqa: E402
from discern.data.tfrecord import RecordFile, read_records, write_records  # noqa: E402
from discern.data.videos import write_video  # noqa: E402
from discern.errors import BadItem, DiscernError, IntegrityError  # noqa: E402
from discern.gallery.store import MAGIC, Gallery  # noqa: E402
from discern.gallery.store import read as read_gallery  # noqa: E402
from discern.gallery.store import write as write_gallery  # noqa: E402
from discern.models.backbone import BackboneConfig  # noqa: E402
from discern.models.model import Model, ModelConfig  # noqa: E402
from discern.models.weights import load_bundle, save_bundle  # noqa: E402
from discern.seal.keys import make_signing_key, read_private  # noqa: E402
from discern.seal.sign import requiring, sign  # noqa: E402
from discern.train.checkpoint import load_latest, save_checkpoint  # noqa: E402
from discern.train.settings import RunConfig  # noqa: E402
from tests.faults.killing import kill_and_resume, pretrain_words, write_pictures  # noqa: E402

TABLE = HERE / "results" / "faults.json"
KILLS, FLIPS, MUTATIONS, INPUTS = 200, 10_000, 10_000, 1_000_000
ROUND = 20  # kills of one training
SMALL = Limits(bytes=2**20, pixels=2**20, frames=256, seconds=600.0, memory=16 * 2**20)
MOST_SECONDS, MOST_MEMORY = 1.0, 64 * 2**20
AT_ONCE = 5_000  # inputs of a child; one that dies is a finding, not the end
# reader -> its share of the inputs, by how long one takes
SHARES = {
    "example": 0.30,
    "tfrecord": 0.20,
    "image": 0.20,
    "manifest": 0.15,
    "gallery": 0.08,
    "settings": 0.04,
    "clip": 0.02,
    "model": 0.01,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--scale", type=float, default=1.0, help="a share of the stated numbers")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    set_threads(1)
    done = json.loads(TABLE.read_text()) if TABLE.exists() else {"parts": {}}
    for name in args.parts:
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="discern-faults-") as home:
            found = PARTS[name](Path(home), args.scale, args.seed)
        found |= {"seconds": round(time.monotonic() - started, 1), "seed": args.seed}
        found["command"] = " ".join(["python", "benchmarks/faults.py", *sys.argv[1:]])
        found |= {"commit": commit(), "hardware": hardware(), "versions": versions()}
        done |= {"command": "python benchmarks/faults.py"}  # all of it; each part says its own
        done["parts"][name] = found
        TABLE.write_text(json.dumps(done, indent=1) + "\n")
        print(name, json.dumps(found, indent=1), flush=True)


def kills(home: Path, scale: float, seed: int) -> dict[str, Any]:
    """Rounds of kills, each of one training that is then let go to its end."""
    pictures = write_pictures(home / "data")
    found = {"kills": 0, "inside_a_save": 0, "checkpoints_lost": 0, "not_exact": 0, "rounds": 0}
    while found["kills"] < round(KILLS * scale):
        out = home / f"run-{found['rounds']}"
        words = pretrain_words(pictures, out, 150, "loop.saves=30")
        report = kill_and_resume(words, out, ROUND, seed=seed + found["rounds"], span=0.5)
        newest = 0
        for kill in report["kills"]:
            if kill["code"] == -signal.SIGKILL:
                found["kills"] += 1
                found["inside_a_save"] += (kill["begun"] or 0) > (kill["acknowledged"] or 0)
            here = kill["found"] or 0
            lost = here < max(newest, kill["acknowledged"] or 0) or bool(kill["notes"])
            found["checkpoints_lost"] += lost
            newest = 0 if kill["code"] == 0 else here
        same = all(report["resumed"][p] == report["whole"][p] for p in ("model", "tensors", "log"))
        found["not_exact"] += report["code"] != 0 or not same
        found["rounds"] += 1
    return found


def flips(home: Path, scale: float, seed: int) -> dict[str, Any]:
    """One bit at a time, in files of three kinds, spread over all of their bytes."""
    drawn = random.Random(seed)
    folder = home / "checkpoints"
    save_checkpoint(folder, 7, {"weight": torch.randn(40, 40)}, {"step": 7})
    checkpoint = [one for one in folder.rglob("*") if one.is_file()]
    bundle = signed_bundle(home)[0]
    shard = home / "a.tfrecord"
    written = [drawn.randbytes(drawn.randrange(1, 400)) for _ in range(40)]
    write_records(shard, written)

    def checkpoint_says() -> bool:
        try:
            return load_latest(folder) is None
        except IntegrityError:
            return True

    def bundle_says() -> bool:
        try:
            load_bundle(bundle)
        except IntegrityError:
            return True
        return False

    def shard_says() -> bool:
        noticed: list[Any] = []
        good = list(read_records(shard, on_bad=noticed.append))
        by_place = RecordFile(shard)
        told = bool(noticed) and (by_place.broken is not None or not _all_readable(by_place))
        by_place.close()
        return told and all(record in written for record in good)

    found: dict[str, Any] = {"flips": 0, "not_noticed": 0}
    targets = {
        "checkpoint": (checkpoint, checkpoint_says),
        "model": ([one for one in bundle.iterdir() if one.name != "signature.json"], bundle_says),
        "tfrecord": ([shard], shard_says),
    }
    for name, (files, says) in targets.items():
        count = math.ceil(FLIPS * scale / len(targets))
        missed = 0
        for _ in range(count):
            path = drawn.choice(files)
            whole = path.read_bytes()
            place = drawn.randrange(8 * len(whole))
            altered = bytearray(whole)
            altered[place // 8] ^= 1 << place % 8
            path.write_bytes(altered)
            missed += not says()
            path.write_bytes(whole)
        found |= {name: {"flips": count, "not_noticed": missed}}
        found["flips"] += count
        found["not_noticed"] += missed
    return found


def _all_readable(records: RecordFile) -> bool:
    try:
        for number in range(len(records)):
            records[number]
    except BadItem:
        return False
    return True


def mutations(home: Path, scale: float, seed: int) -> dict[str, Any]:
    """A signed model with anything done to its files, asked for with its key."""
    drawn = random.Random(seed)
    bundle, public = signed_bundle(home)
    whole = {one.name: one.read_bytes() for one in bundle.iterdir()}
    with requiring(public):
        load_bundle(bundle)  # as it is it is accepted
    found: dict[str, Any] = {"mutations": 0, "accepted": 0, "otherwise_refused": 0}
    while found["mutations"] < round(MUTATIONS * scale):
        name = drawn.choice(sorted(whole))
        kind = drawn.randrange(5)
        path = bundle / name
        if kind == 0:
            path.unlink()
        elif kind == 1:
            path.write_bytes(whole[drawn.choice(sorted(set(whole) - {name}))])
        else:
            path.write_bytes(mutated(whole[name], drawn))
        if path.exists() and path.read_bytes() == whole[name]:
            continue  # nothing was altered
        found["mutations"] += 1
        try:
            with requiring(public):
                load_bundle(bundle)
            # white space of a JSON file that nothing signs would be no harm, and there is none
            found["accepted"] += 1
        except IntegrityError:
            pass
        except DiscernError:  # a bundle without a manifest is none
            found["otherwise_refused"] += 1
        path.write_bytes(whole[name])
    return found


def signed_bundle(home: Path) -> tuple[Path, Path]:
    """A small model, signed, and the public key's file."""
    torch.manual_seed(0)
    shape = BackboneConfig(width=8, depth=1, heads=1, mlp_ratio=1.0, patch=4, stem="linear")
    model = Model(ModelConfig(backbone=shape, classes=2)).eval()
    folder = home / "model"
    size = {"height": 16, "width": 16}
    save_bundle(folder, model, labels=["cat", "dog"], preprocess=size, made={})
    private, public = make_signing_key(home / "key")
    sign(folder, read_private(private))
    return folder, public


def mutated(data: bytes, drawn: random.Random) -> bytes:
    """A few changes as they happen, or as one would make them to find a hole."""
    found = bytearray(data)
    for _ in range(1 + drawn.randrange(4)):
        at = drawn.randrange(len(found) + 1)
        kind = drawn.randrange(7)
        if kind == 0 and found:
            found[min(at, len(found) - 1)] ^= 1 << drawn.randrange(8)
        elif kind == 1:
            del found[at:]
        elif kind == 2:
            found[at:at] = drawn.randbytes(drawn.randrange(1, 9))
        elif kind == 3:
            found[at : at + 4] = drawn.choice(NUMBERS)
        elif kind == 4:
            end = min(len(found), at + drawn.randrange(64))
            found[at:at] = found[at:end]
        elif kind == 5:
            del found[at : at + drawn.randrange(1, 64)]
        elif found:
            found[min(at, len(found) - 1)] = drawn.randrange(256)
    return bytes(found)


NUMBERS = [
    value.to_bytes(4, order)
    for value in (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
    for order in ("little", "big")
]


def fuzz(home: Path, scale: float, seed: int) -> dict[str, Any]:
    """Altered inputs for every reader, in children."""
    corpus = seeds(home)
    found: dict[str, Any] = {"inputs": 0, "crashes": 0, "too_slow": 0, "too_large": 0}
    for number, (name, share) in enumerate(SHARES.items()):
        total = round(INPUTS * share * scale)
        part = {"inputs": 0, "crashes": 0, "too_slow": 0, "too_large": 0, "read": 0}
        part |= {"slowest_seconds": 0.0, "largest_bytes": 0, "findings": []}
        for first in range(0, total, AT_ONCE):
            count = min(AT_ONCE, total - first)
            one = in_child(name, corpus[name], count, seed * 10**9 + number * 10**7 + first, home)
            for key in ("inputs", "crashes", "too_slow", "too_large", "read"):
                part[key] += one[key]
            part["slowest_seconds"] = max(part["slowest_seconds"], one["slowest_seconds"])
            part["largest_bytes"] = max(part["largest_bytes"], one["largest_bytes"])
            part["findings"] = [*part["findings"], *one["findings"]][:20]
        found[name] = part
        for key in ("inputs", "crashes", "too_slow", "too_large"):
            found[key] += part[key]
        print(name, part, flush=True)
    return found


def in_child(name: str, corpus: list[bytes], count: int, seed: int, home: Path) -> dict[str, Any]:
    """What one child found; its death is a crash of the input that it was at."""
    report, place = home / "report.json", home / "place"
    report.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 2)  # decoders complain there
            report.write_text(json.dumps(run_inputs(name, corpus, count, seed, home, place)))
            code = 0
        finally:
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == 0:
        return json.loads(report.read_text())
    at = int(place.read_text() or 0) if place.exists() else 0
    dead = {"inputs": at + 1, "crashes": 1, "too_slow": 0, "too_large": 0, "read": 0}
    what = [f"seed {seed}, input {at}: the process ended with {status}"]
    return dead | {"slowest_seconds": 0.0, "largest_bytes": 0, "findings": what}


def run_inputs(
    name: str, corpus: list[bytes], count: int, seed: int, home: Path, place: Path
) -> dict[str, Any]:
    reader = READERS[name](home)
    for whole in corpus:  # what is loaded at first use is not an input's cost
        reader(whole)  # and it can be read
    found: dict[str, Any] = {"inputs": 0, "crashes": 0, "too_slow": 0, "too_large": 0, "read": 0}
    found |= {"slowest_seconds": 0.0, "largest_bytes": 0, "findings": []}
    memory = _memory()
    for number in range(count):
        drawn = random.Random(seed + number)
        data = mutated(drawn.choice(corpus), drawn)
        if name in ("clip", "image", "model"):  # those that native code reads
            place.write_text(str(number))
        started = time.perf_counter()
        try:
            reader(data)
            found["read"] += 1
        except DiscernError:
            pass
        except Exception as error:
            found["crashes"] += 1
            found["findings"].append(f"seed {seed + number}: {error!r}"[:300])
        took = time.perf_counter() - started
        now = _memory()
        grown, memory = now - memory, now
        found["slowest_seconds"] = max(found["slowest_seconds"], took)
        found["largest_bytes"] = max(found["largest_bytes"], grown)
        for key, is_over in (("too_slow", took > MOST_SECONDS), ("too_large", grown > MOST_MEMORY)):
            if is_over:
                found[key] += 1
                found["findings"].append(f"seed {seed + number}: {took:.2f} s, {grown} bytes")
        found["inputs"] += 1
    return found


def _memory() -> int:
    """Bytes that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def seeds(home: Path) -> dict[str, list[bytes]]:
    """Good inputs, from which the others are made."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    still = Clip(frames=pixels[:1], times=np.zeros(1), kind=Kind.IMAGE)
    moving = Clip(frames=pixels, times=np.arange(6) / 8, kind=Kind.CLIP)
    images = []
    for suffix in (".png", ".jpg", ".webp"):
        write_image(still, home / f"a{suffix}")
        images.append((home / f"a{suffix}").read_bytes())
    from PIL import Image

    for suffix in (".bmp", ".tif", ".gif"):
        Image.fromarray(pixels[0]).save(home / f"b{suffix}")
        images.append((home / f"b{suffix}").read_bytes())
    clips = []
    for suffix in (".mp4", ".gif"):
        write_video(moving, home / f"c{suffix}")
        clips.append((home / f"c{suffix}").read_bytes())
    features = {"image/encoded": [images[1]], "image/class/label": [3], "x": [0.5, 1.5]}
    example = encode_example(features)
    write_records(home / "d.tfrecord", [example, b"", b"abc" * 50])
    write_records(home / "e.tfrecord", [example, b"abc"], gzip=True)
    rows = [["path", "label", "split"], ["a.png", "cat;dog", "train"], ["b.gif", "", "test"]]
    with open(home / "f.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    gallery = Gallery.empty("0" * 64, 4)
    gallery.add("someone", np.eye(4, dtype=np.float32))
    write_gallery(home / "g.gallery", gallery)
    bundle = signed_bundle(home)[0]
    lines = b'{"path": "a.png", "label": ["cat"]}\n{"path": "b.png", "label": "dog"}\n'
    settings = json.dumps(configuration.to_dict(RunConfig(objective="supervised")))
    return {
        "image": images,
        "clip": clips,
        "example": [example],
        "tfrecord": [(home / f"{n}.tfrecord").read_bytes() for n in "de"],
        "manifest": [(home / "f.csv").read_bytes(), lines],
        "gallery": [(home / "g.gallery").read_bytes()],
        "settings": [settings.encode()],
        "model": [(bundle / "config.json").read_bytes(), (bundle / "manifest.json").read_bytes()],
    }


Reader = Callable[[bytes], object]


def image_reader(home: Path) -> Reader:
    return lambda data: decode(data, SMALL, frames=8, detail=Detail(32))


def example_reader(home: Path) -> Reader:
    def read(data: bytes) -> None:
        example = parse_example(data)
        for name in example.keys():  # noqa: SIM118  # it is no mapping
            example.kind(name)

    return read


def tfrecord_reader(home: Path) -> Reader:
    path = home / "fuzzed.tfrecord"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        list(read_records(path, on_bad=lambda bad: None, limit=2**20))

    return read


def manifest_reader(home: Path) -> Reader:
    def read(data: bytes) -> None:
        path = home / ("fuzzed.jsonl" if data[:1] == b"{" else "fuzzed.csv")
        path.write_bytes(data)
        read_manifest(path)

    return read


def gallery_reader(home: Path) -> Reader:
    path = home / "fuzzed.gallery"

    def read(data: bytes) -> None:
        # its checksum would refuse whatever was altered: it is made to fit
        body = data[len(MAGIC) + 32 :]
        path.write_bytes(MAGIC + hashlib.sha256(body).digest() + body)
        read_gallery(path)

    return read


def settings_reader(home: Path) -> Reader:
    from discern.errors import ConfigError
    from discern.files import parse_json

    def read(data: bytes) -> None:
        try:
            values = parse_json(data)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        if isinstance(values, dict):
            configuration.from_dict(RunConfig, values)

    return read


def model_reader(home: Path) -> Reader:
    """An altered file under a manifest that fits it, or an altered manifest."""
    bundle = home / "fuzzed-model"
    shutil.copytree(home / "model", bundle, dirs_exist_ok=True)
    (bundle / "signature.json").unlink(missing_ok=True)
    manifest = json.loads((bundle / "manifest.json").read_text())
    whole = (bundle / "config.json").read_bytes()

    def read(data: bytes) -> None:
        if b"sha256" in data:
            (bundle / "config.json").write_bytes(whole)
            (bundle / "manifest.json").write_bytes(data)
        else:
            (bundle / "config.json").write_bytes(data)
            entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            fitted = {**manifest, "files": {**manifest["files"], "config.json": entry}}
            (bundle / "manifest.json").write_text(json.dumps(fitted))
        load_bundle(bundle)

    return read


READERS: dict[str, Callable[[Path], Reader]] = {
    "image": image_reader,
    "clip": image_reader,
    "example": example_reader,
    "tfrecord": tfrecord_reader,
    "manifest": manifest_reader,
    "gallery": gallery_reader,
    "settings": settings_reader,
    "model": model_reader,
}
PARTS: dict[str, Callable[[Path, float, int], dict[str, Any]]] = {
    "flips": flips,
    "mutations": mutations,
    "fuzz": fuzz,
    "kills": kills,
}


if __name__ == "__main__":
    main()
