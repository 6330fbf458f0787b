"""How long until the first answer: `discern predict` and a transformers pipeline, fresh processes.

    PYTHON benchmarks/first_answer.py [--rounds 7]

PYTHON has torch, transformers and torchvision beside what Discern needs.  Each contender is one new
process that names what is in one picture, with a ViT of the same size (width, depth, patch, pixels)
of random weights from the disk; files are in the page cache.  Beside them what importing takes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from few_labels import commit, hardware  # noqa: E402
from peers import transformers_vit  # noqa: E402
from rounds import interleaved, summary, times_faster  # noqa: E402
from untrained import CLASSES, untrained  # noqa: E402

SIDE, PATCH = 32, 4
PIPELINE = """
import sys
from transformers import pipeline
print(pipeline("image-classification", model=sys.argv[1])(sys.argv[2]))
"""
IMPORTS = {"torch": "import torch", "torch and discern": "import torch, discern.predict"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    import torch
    import transformers

    with tempfile.TemporaryDirectory(prefix="discern-first-") as home:
        ours, theirs, picture = prepared(Path(home))
        words = {
            "discern predict": ["-m", "discern", "predict", str(ours), str(picture)],
            "transformers pipeline": ["-c", PIPELINE, str(theirs), str(picture)],
            **{f"import {name}": ["-c", text] for name, text in IMPORTS.items()},
        }
        seconds = interleaved({name: run(one) for name, one in words.items()}, args.rounds)
    more = zip(seconds["import torch and discern"], seconds["import torch"], strict=True)
    found = {
        "command": " ".join(["python", "benchmarks/first_answer.py", *sys.argv[1:]]),
        "commit": commit(),
        "hardware": hardware(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "seconds": {name: summary(values) for name, values in seconds.items()},
        "import_beyond_torch": summary([both - torch_alone for both, torch_alone in more]),
        "claims": {
            "transformers pipeline": times_faster(
                seconds, "discern predict", "transformers pipeline", round(1 / 0.7, 2)
            )
        },
    }
    (ROOT / "benchmarks/results/first_answer.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({k: found[k] for k in ("seconds", "import_beyond_torch", "claims")}, indent=1))


def run(words: list[str]) -> Callable[[], None]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}

    def once() -> None:
        done = subprocess.run([sys.executable, *words], env=environment, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()

    return once


def prepared(home: Path) -> tuple[Path, Path, Path]:
    """A model of ours, one of theirs, and a picture."""
    from transformers import ViTImageProcessor

    ours, picture = untrained(home, SIDE, PATCH)
    theirs = home / "theirs"
    transformers_vit("nano", SIDE, PATCH, CLASSES).save_pretrained(theirs)
    ViTImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(theirs)
    return ours, theirs, picture


if __name__ == "__main__":
    main()
