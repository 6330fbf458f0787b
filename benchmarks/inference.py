"""Classes of pictures in plain torch, no other runtime: ours beside timm's ViT of the same size.

    python benchmarks/inference.py [--rounds 9]

Untrained networks: time does not hang on what they know.  Ours takes bytes of pixels and gives
logits, as `discern predict --precision P` does, which enters autocast for each answer; timm's is
handed finished floats, in inference mode, as its `benchmark.py` has it, and all its passes of a
round are in one autocast, which casts its weights once.  bf16 is measured where this processor
gains by it.  Contenders take turns.
"""

from __future__ import annotations

from discern.threads import prepare_threads, set_threads

prepare_threads()

import argparse  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from few_labels import HERE, commit, hardware, versions  # noqa: E402
from peers import our_shape, timm_vit  # noqa: E402
from rounds import interleaved, one_core, summary, times_faster  # noqa: E402

from discern.clip import Batch, Kind  # noqa: E402
from discern.data.badfiles import BadFiles  # noqa: E402
from discern.data.loader import evaluation_batches  # noqa: E402
from discern.evaluate.evaluate import measured_sets  # noqa: E402
from discern.models.model import Model, ModelConfig  # noqa: E402
from discern.predict import forward, load  # noqa: E402
from discern.scale.precision import Precision, autocast, probe_precision  # noqa: E402

CPU, CLASSES = torch.device("cpu"), 10
TABLE = HERE / "results" / "inference.json"
# size, pixels of a side, patch, pictures at once, how often in a round
CASES = (
    ("nano", 32, 4, 1, 40),
    ("nano", 32, 4, 64, 2),
    ("tiny", 224, 16, 1, 8),
    ("tiny", 224, 16, 8, 2),
    ("small", 224, 16, 1, 3),
    ("small", 224, 16, 8, 1),
)
# ours, timm's -> so many times as fast is asked for
TO_REACH = {("fp32", "fp32"): 1.4, ("bf16", "bf16"): 1.1, ("bf16", "fp32"): 2.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--model", type=Path, help="a tuned model: how far bf16 moves its answers")
    parser.add_argument("--source", type=Path, help="labelled items that it has not seen")
    args = parser.parse_args()
    set_threads(1)
    one_core()
    gains = probe_precision(CPU).precision is Precision.BF16
    precisions = ["fp32", "bf16"] if gains else ["fp32"]
    rows = {
        f"{size}, {side} pixels, {count} at once": case(
            size, side, patch, count, times, precisions, args.rounds
        )
        for size, side, patch, count, times in CASES
    }
    import timm

    found = {
        "command": command(args),
        "commit": commit(),
        "versions": versions() | {"timm": timm.__version__},
        "hardware": hardware(),
        "precisions": precisions,
        "moved": moved(args.model, args.source) if args.model else None,
        "rows": rows,
    }
    TABLE.write_text(json.dumps(found, indent=1) + "\n")


def command(args: argparse.Namespace) -> str:
    words = " ".join(["python", "benchmarks/inference.py", *sys.argv[1:]])
    for name, path in (("MODEL", args.model), ("SOURCE", args.source)):
        words = words if path is None else words.replace(str(path), name)
    return words


def moved(model: Path, source: Path) -> dict[str, Any]:
    """How often each precision is right on the same items, and how far probabilities are apart."""
    found = {}
    for precision in ("fp32", "bf16"):
        bundle = load(model, precision=precision)
        items = measured_sets(bundle, [str(source)], BadFiles(None))[Kind.IMAGE]
        logits = forward(bundle.model, evaluation_batches(items, 256))
        found[precision] = bundle.certainty.probabilities(logits)
    plain, halved = found["fp32"], found["bf16"]
    apart = np.abs(plain - halved).max(axis=1)
    return {
        "items": len(items),
        "right": {n: float((one.argmax(1) == items.labels).mean()) for n, one in found.items()},
        "same_label": float((plain.argmax(1) == halved.argmax(1)).mean()),
        "apart": {f"{p:g}": float(np.percentile(apart, p)) for p in (50, 99, 100)},
    }


def case(
    size: str, side: int, patch: int, count: int, times: int, precisions: list[str], rounds: int
) -> dict[str, Any]:
    """Milliseconds of a batch, and how many times faster ours is."""
    torch.manual_seed(0)
    backbone = our_shape(size, patch)
    ours = Model(ModelConfig(backbone=backbone, classes=CLASSES)).eval()
    peer = timm_vit(size, side, patch, CLASSES).eval()
    pixels = Batch(clip=torch.randint(0, 256, (count, 3, 1, side, side), dtype=torch.uint8))
    floats = torch.randn(count, 3, side, side)

    def of_ours(precision: str) -> Callable[[], None]:
        def run() -> None:
            ours.precision = precision
            for _ in range(times):
                forward(ours, [pixels])

        return run

    def of_timm(precision: str) -> Callable[[], None]:
        def run() -> None:
            with torch.inference_mode(), autocast(precision, CPU):
                for _ in range(times):
                    peer(floats)

        return run

    makers = {"ours": of_ours, "timm": of_timm}
    seconds = interleaved(
        {f"{who}, {one}": make(one) for who, make in makers.items() for one in precisions}, rounds
    )
    claims = {
        f"{mine} against {other}": times_faster(seconds, f"ours, {mine}", f"timm, {other}", bar)
        for (mine, other), bar in TO_REACH.items()
        if mine in precisions
    }
    print(size, side, count, {k: one["ratio"]["median"] for k, one in claims.items()}, flush=True)
    return {
        "milliseconds": {
            name: summary([1e3 * one / times for one in values]) for name, values in seconds.items()
        },
        "claims": claims,
    }


if __name__ == "__main__":
    main()
