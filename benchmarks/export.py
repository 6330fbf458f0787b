"""How fast an exported model answers, beside timm's ViT of the same size in torch, and how alike.

    python benchmarks/export.py                     speed, on one thread
    python benchmarks/export.py --parity cifar10 jhmdb     agreement on real items as well

Untrained networks: time does not hang on what they know.  Ours takes bytes and gives calibrated
probabilities; timm's is handed finished floats and gives logits.  Where the processor computes in
bf16, OpenVINO's graph also runs in it, as `discern export --precision bf16` has it.  Rounds take
turns; medians over rounds, and intervals of the ratio over rounds (Student's t).
"""

from __future__ import annotations

from discern.threads import prepare_threads, set_threads

prepare_threads()

import argparse  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import statistics  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from few_labels import HERE, commit, hardware, interval, unpacked, versions  # noqa: E402
from peers import timm_vit  # noqa: E402
from rounds import one_core  # noqa: E402

from discern.clip import Kind  # noqa: E402
from discern.export.run import RUNNERS, openvino_capabilities  # noqa: E402
from discern.models.backbone import SIZES, BackboneConfig  # noqa: E402
from discern.models.model import Model, ModelConfig  # noqa: E402
from discern.models.weights import save_bundle  # noqa: E402
from discern.recipes.export import export  # noqa: E402

ROUNDS, SECONDS = 9, 0.4  # rounds, and the least time of each measurement
CLASSES = 10
# size, pixels of a side, patch, items at once
CASES = (("nano", 32, 4, 1), ("nano", 32, 4, 8), ("tiny", 64, 8, 1), ("tiny", 64, 8, 8))
TABLE = HERE / "results" / "export.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parity", nargs="*", default=[], choices=("cifar10", "jhmdb"))
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    args = parser.parse_args()
    load = os.getloadavg()[0]
    set_threads(1)
    found: dict[str, Any] = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    for name in args.parity:
        with tempfile.TemporaryDirectory() as home:
            found.setdefault("parity", {})[name] = parity(Path(home), unpacked(name, args.out))
    with tempfile.TemporaryDirectory() as home:
        # before timm is there: torch's exporter asks for torchvision, and gets the stand-in
        for one in CASES:
            exported(Path(home), *one)
        one_core()  # what a runtime starts beside its one thread gains nothing by it
        rows = [case(Path(home), *one) for one in CASES]
    found |= {"rows": rows, "rounds": ROUNDS, "threads": 1, "load_before": load}
    import onnxruntime
    import openvino
    import timm

    also = {
        "timm": timm.__version__,
        "onnxruntime": onnxruntime.__version__,
        "openvino": openvino.__version__.split("-")[0],
    }
    found |= {
        "command": " ".join(["python", "benchmarks/export.py", *sys.argv[1:]]).replace(
            str(args.out), "OUT"
        ),
        "commit": commit(),
        "versions": versions() | also,
        "hardware": hardware(),
    }
    TABLE.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def a_bundle(folder: Path, size: str, side: int, patch: int) -> Path:
    torch.manual_seed(0)
    shape = SIZES[size]
    backbone = BackboneConfig(
        width=shape["width"], depth=shape["depth"], heads=shape["heads"], patch=patch
    )
    model = Model(ModelConfig(backbone=backbone, classes=CLASSES)).eval()
    labels = [f"class {number}" for number in range(CLASSES)]
    fit = {"height": side, "width": side}
    save_bundle(folder, model, labels=labels, preprocess=fit, made={})
    return folder


def exported(home: Path, size: str, side: int, patch: int, batch: int) -> None:
    work = home / f"{size}-{side}-{batch}"
    bundle = a_bundle(work / "model", size, side, patch)
    for to in RUNNERS:
        export(bundle, to, work / to)


def case(home: Path, size: str, side: int, patch: int, batch: int) -> dict[str, Any]:
    """Seconds of one batch, by who computes it."""
    work = home / f"{size}-{side}-{batch}"
    peer = timm_vit(size, side, patch, CLASSES).eval()
    drawn = np.random.default_rng(0)
    frames = drawn.integers(0, 256, (batch, 1, side, side, 3), dtype=np.uint8)
    floats = torch.randn(batch, 3, side, side)

    def torch_fp32() -> None:
        with torch.inference_mode():
            peer(floats)

    def torch_bf16() -> None:
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            peer(floats)

    runners: dict[str, Callable[[], Any]] = {
        "timm, torch fp32": torch_fp32,
        "timm, torch bf16": torch_bf16,
    }
    for to in RUNNERS:
        suffix = {"onnx": ".onnx", "openvino": ".xml"}[to]
        runner = RUNNERS[to](work / to / f"{Kind.IMAGE}{suffix}", "fp32", threads=1)
        runners[f"ours, {to}"] = lambda runner=runner: runner(frames)
    if "BF16" in openvino_capabilities():
        graph = work / "openvino" / f"{Kind.IMAGE}.xml"  # the same file: precision is a hint
        halved = RUNNERS["openvino"](graph, "bf16", threads=1)
        runners["ours, openvino in bf16"] = lambda: halved(frames)
    times: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(ROUNDS + 1):  # the first pays for what is loaded
        for name, work_ in runners.items():
            times[name].append(one_call(work_))
    rounds = {name: found[1:] for name, found in times.items()}
    ours = [name for name in rounds if name.startswith("ours")]
    best = min(ours, key=lambda name: statistics.median(rounds[name]))
    ratios = {
        name: interval([a / b for a, b in zip(rounds[name], rounds[best], strict=True)])
        for name in rounds
        if name.startswith("timm")
    }
    return {
        "size": size,
        "side": side,
        "patch": patch,
        "batch": batch,
        "milliseconds": {name: 1e3 * statistics.median(found) for name, found in rounds.items()},
        "fastest": best,
        "times_as_fast_as": ratios,
    }


def one_call(work: Callable[[], Any]) -> float:
    """Seconds of one call, over as many as fill the time."""
    count, started = 0, time.perf_counter()
    while True:
        work()
        count += 1
        passed = time.perf_counter() - started
        if passed >= SECONDS:
            return passed / count


def parity(home: Path, folder: Path) -> dict[str, Any]:
    """Trains for a moment, so that answers differ; then exports with the check on real items."""
    from discern.recipes.train import train

    run = home / "run"
    few = ["loop.evaluations=1"]
    train(str(folder), run, base="discern-nano", steps=10, labels=5, overrides=few, test=False)
    return {to: export(run, to, home / to, check=[str(folder)])["parity"] for to in RUNNERS}


if __name__ == "__main__":
    main()
