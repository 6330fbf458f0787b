"""Classes of pictures in plain torch, no other runtime: ours beside timm's ViT of the same size.

    python benchmarks/inference.py [--rounds 9]

Untrained networks: time does not hang on what they know.  Ours takes bytes of pixels and gives
logits, as `discern predict` does; timm's is handed finished floats, in inference mode, as its
`benchmark.py` has it.  bf16 is measured where this processor gains by it.  Contenders take turns.
"""

from __future__ import annotations

from discern.threads import prepare_threads, set_threads

prepare_threads()

import argparse  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402

import torch  # noqa: E402
from few_labels import HERE, commit, hardware, versions  # noqa: E402
from peers import timm_vit  # noqa: E402
from rounds import interleaved, one_core, summary, times_faster  # noqa: E402

from discern.clip import Batch  # noqa: E402
from discern.models.backbone import SIZES, BackboneConfig  # noqa: E402
from discern.models.model import Model, ModelConfig  # noqa: E402
from discern.predict import forward  # noqa: E402
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
TO_REACH = {"fp32": 1.4, "bf16": 1.1}  # each in its own precision


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    set_threads(1)
    one_core()
    gains = probe_precision(CPU).precision is Precision.BF16
    precisions = ["fp32", "bf16"] if gains else ["fp32"]
    rows = {
        f"{size}, {side} pixels, {count} at once, {precision}": case(
            size, side, patch, count, times, precision, args.rounds
        )
        for size, side, patch, count, times in CASES
        for precision in precisions
    }
    import timm

    found = {
        "command": " ".join(["python", "benchmarks/inference.py", *sys.argv[1:]]),
        "commit": commit(),
        "versions": versions() | {"timm": timm.__version__},
        "hardware": hardware(),
        "precisions": precisions,
        "rows": rows,
    }
    TABLE.write_text(json.dumps(found, indent=1) + "\n")


def case(
    size: str, side: int, patch: int, count: int, times: int, precision: str, rounds: int
) -> dict[str, Any]:
    """Milliseconds of a batch, and how many times faster ours is."""
    shape = SIZES[size]
    torch.manual_seed(0)
    backbone = BackboneConfig(**shape, patch=patch)
    ours = Model(ModelConfig(backbone=backbone, classes=CLASSES)).eval()
    peer = timm_vit(size, side, patch, CLASSES).eval()
    pixels = Batch(clip=torch.randint(0, 256, (count, 3, 1, side, side), dtype=torch.uint8))
    floats = torch.randn(count, 3, side, side)

    def repeated(work: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            with torch.inference_mode(), autocast(precision, CPU):
                for _ in range(times):
                    work()

        return run

    seconds = interleaved(
        {
            "ours": repeated(lambda: forward(ours, [pixels])),
            "timm": repeated(lambda: peer(floats)),
        },
        rounds,
    )
    found = {
        "milliseconds": {
            name: summary([1e3 * one / times for one in values]) for name, values in seconds.items()
        },
        "claim": times_faster(seconds, "ours", "timm", TO_REACH[precision]),
    }
    print(size, side, count, precision, found["claim"]["ratio"]["median"], flush=True)
    return found


if __name__ == "__main__":
    main()
