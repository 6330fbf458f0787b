"""How fast an exported model answers, beside timm's ViT of the same size in torch, and how alike.

    python benchmarks/export.py                     speed, on one thread
    python benchmarks/export.py --parity cifar10 jhmdb     agreement on real items as well
    python benchmarks/export.py --model RUN --source FOLDER    what fewer bits cost a trained model

Untrained networks: time does not hang on what they know.  Ours takes bytes and gives calibrated
probabilities; timm's is handed finished floats and gives logits.  Where the processor computes in
bf16, OpenVINO's graph also runs in it, as `discern export --precision bf16` has it; and both
runtimes with products of int8, as `--precision int8` has them.  Rounds take turns; medians over
rounds, and intervals of the ratio over rounds (Student's t).  Beside them the least that a batch
could take in 32 or 16 bits: its own products at the rate of one large product of matrices, and
nothing around them.
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
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from few_labels import HERE, commit, hardware, interval, unpacked, versions  # noqa: E402
from peers import our_shape, timm_vit  # noqa: E402
from rounds import one_core  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from discern.clip import Kind  # noqa: E402
from discern.errors import GateError  # noqa: E402
from discern.export.graph import Graph, example  # noqa: E402
from discern.export.run import RUNNERS, openvino_capabilities  # noqa: E402
from discern.export.writers import SUFFIXES, WRITERS  # noqa: E402
from discern.models.model import Model, ModelConfig  # noqa: E402
from discern.models.weights import load_bundle, save_bundle  # noqa: E402
from discern.recipes.export import PRECISIONS, export  # noqa: E402

RANGED = 32  # items that ranges of int8 come from
ROUNDS, SECONDS = 9, 0.4  # rounds, and the least time of each measurement
LARGE = 1024  # rows and columns of the product that shows what the processor can do
CLASSES = 10
# size, pixels of a side, patch, items at once
CASES = (("nano", 32, 4, 1), ("nano", 32, 4, 8), ("tiny", 64, 8, 1), ("tiny", 64, 8, 8))
TABLE = HERE / "results" / "export.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parity", nargs="*", default=[], choices=("cifar10", "jhmdb"))
    parser.add_argument("--model", type=Path, default=None, help="a trained run")
    parser.add_argument("--source", type=Path, default=None, help="labelled items it is judged on")
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    parser.add_argument("--json", type=Path, default=TABLE, help="of this kind of processor")
    args = parser.parse_args()
    if (args.model is None) != (args.source is None):
        parser.error("--model and --source go together")
    load = os.getloadavg()[0]
    found: dict[str, Any] = json.loads(args.json.read_text()) if args.json.exists() else {}
    for name in args.parity:
        with tempfile.TemporaryDirectory() as home:
            found.setdefault("parity", {})[name] = parity(Path(home), unpacked(name, args.out))
    if args.model is not None:
        with tempfile.TemporaryDirectory() as home:
            found["cost"] = cost(Path(home), args.model, args.source)
    with tempfile.TemporaryDirectory() as home:
        # before timm is there: torch's exporter asks for torchvision, and gets the stand-in
        for one in CASES:
            exported(Path(home), *one)
        one_core()  # what a runtime starts beside its one thread gains nothing by it
        set_threads(1)  # a training for the parity took all
        pace = rates()
        rows = [case(Path(home), pace, *one) for one in CASES]
    found |= {"rows": rows, "rounds": ROUNDS, "threads": 1, "load_before": load, "rates": pace}
    import onnxruntime
    import openvino
    import timm

    also = {
        "timm": timm.__version__,
        "onnxruntime": onnxruntime.__version__,
        "openvino": openvino.__version__.split("-")[0],
    }
    found |= {
        "command": shown(args),
        "commit": commit(),
        "versions": versions() | also,
        "hardware": hardware(),
    }
    args.json.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def shown(args: argparse.Namespace) -> str:
    """The command, without the paths of this machine."""
    text = " ".join(["python", "benchmarks/export.py", *sys.argv[1:]])
    for path, name in ((args.model, "RUN"), (args.source, "FOLDER"), (args.out, "OUT")):
        text = text if path is None else text.replace(str(path), name)
    return text


def cost(home: Path, model: Path, source: Path) -> dict[str, Any]:
    """What fewer bits cost: precision and runtime -> what `discern export` says, or refuses."""
    found: dict[str, Any] = {}
    for precision in ("bf16", "int8"):
        for to in PRECISIONS[precision]:
            name = f"{to} in {precision}"
            try:
                said = export(model, to, home / name, precision=precision, check=[str(source)])
                found[name] = said["parity"]
            except GateError as error:
                found[name] = {"refused": str(error)}
    return found


def a_bundle(folder: Path, size: str, side: int, patch: int) -> Path:
    torch.manual_seed(0)
    backbone = our_shape(size, patch)
    model = Model(ModelConfig(backbone=backbone, classes=CLASSES)).eval()
    labels = [f"class {number}" for number in range(CLASSES)]
    fit = {"height": side, "width": side}
    save_bundle(folder, model, labels=labels, preprocess=fit, made={})
    return folder


def exported(home: Path, size: str, side: int, patch: int, batch: int) -> None:
    work = home / f"{size}-{side}-{batch}"
    bundle = a_bundle(work / "model", size, side, patch)
    loaded = load_bundle(bundle)
    two, ranges = (example(loaded, Kind.IMAGE, count) for count in (2, RANGED))
    for to in RUNNERS:
        export(bundle, to, work / to)
        (work / f"{to}-int8").mkdir()
        WRITERS[to](Graph(loaded), two, work / f"{to}-int8" / str(Kind.IMAGE), ranges)


def rates() -> dict[str, float]:
    """precision -> floating-point operations a second of a large product of matrices, at best.

    Of the precisions that OpenVINO computes in on this processor; one thread.
    """
    kinds = {"fp32": torch.float32}
    if "BF16" in openvino_capabilities():
        kinds["bf16"] = torch.bfloat16
    found = {}
    for name, kind in kinds.items():
        large = torch.randn(LARGE, LARGE).to(kind)
        multiply = partial(torch.mm, large, large)
        found[name] = 2 * LARGE**3 / min(one_call(multiply) for _ in range(ROUNDS))
    return found


def operations(bundle: Path, frames: np.ndarray) -> int:
    """Floating-point operations of the products and convolutions of a batch."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        Graph(load_bundle(bundle)).eval()(torch.from_numpy(frames))
    return int(counter.get_total_flops())


def case(
    home: Path, pace: dict[str, float], size: str, side: int, patch: int, batch: int
) -> dict[str, Any]:
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
        for precision, folder, name in (("fp32", to, to), ("int8", f"{to}-int8", f"{to} in int8")):
            path = work / folder / f"{Kind.IMAGE}{SUFFIXES[to]}"
            runner = RUNNERS[to](path, precision, threads=1)
            runners[f"ours, {name}"] = lambda runner=runner: runner(frames)
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
    whole = fastest(rounds, [name for name in ours if "int8" not in name])
    few = fastest(rounds, [name for name in ours if "int8" in name])
    count = operations(work / "model", frames)
    return {
        "operations": count,
        "least_milliseconds": {name: 1e3 * count / each for name, each in pace.items()},
        "size": size,
        "side": side,
        "patch": patch,
        "batch": batch,
        "milliseconds": {name: 1e3 * statistics.median(found) for name, found in rounds.items()},
        "fastest": whole,
        "times_as_fast_as": ahead(rounds, whole),
        "fastest_in_int8": few,
        "int8_times_as_fast_as": ahead(rounds, few),
    }


def fastest(rounds: dict[str, list[float]], names: list[str]) -> str:
    return min(names, key=lambda name: statistics.median(rounds[name]))


def ahead(rounds: dict[str, list[float]], one: str) -> dict[str, Any]:
    """peer -> how many times as fast as it `one` is."""
    return {
        name: interval([a / b for a, b in zip(times, rounds[one], strict=True)])
        for name, times in rounds.items()
        if name.startswith("timm")
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
