"""Our attacks against those of ART (adversarial-robustness-toolbox), on the same model and items.

    pip install adversarial-robustness-toolbox
    python benchmarks/attacks.py [--model RUN --source FOLDER]

A small classifier of digits is trained first, or a run of `discern train` is taken.  Both libraries
attack the same test items at the same size with the same number of steps, one after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from few_labels import HERE, commit, discern, hardware, versions
from torch import nn

SIZES = (8 / 255,)
ITEMS = 500
# the ratio of logits is left out: ours is the targeted one, theirs is not
STEPS = {"fgsm": 1, "pgd": 10, "apgd_ce": 20, "square": 50}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    parser.add_argument("--model", type=Path, help="A run of `discern train`.")
    parser.add_argument("--source", type=Path, help="What to attack it on: its test part.")
    args = parser.parse_args()
    import art

    from discern.security.attacks import right

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 2)))
    if args.model is None:
        args.model, args.source = trained(args.out)
    model, clip, label = opened(args.model, args.source)
    rows = []
    for eps in SIZES:
        for name in STEPS:
            row = {"attack": name, "eps": eps, **ours(model, clip, label, name, eps)}
            row |= theirs(model, clip, label, name, eps)
            if name == "fgsm":
                row["largest_difference"] = float(np.abs(row.pop("mine") - row.pop("its")).max())
            row = {key: value for key, value in row.items() if key not in ("mine", "its")}
            rows.append(row)
            print(row, flush=True)
    found = {
        "command": "python benchmarks/attacks.py"
        + (" --model MODEL --source SOURCE" if args.model != args.out / "attacks-model" else ""),
        "accuracy": float(right(model, clip * 2 - 1, label).float().mean()),
        "hardware": hardware(),
        "commit": commit(),
        "versions": versions() | {"adversarial-robustness-toolbox": art.__version__},
        "items": len(label),
        "steps": STEPS,
        "rows": rows,
        "most_apart": max(abs(row["ours"] - row["art"]) for row in rows),
    }
    (HERE / "results" / "attacks.json").write_text(json.dumps(found, indent=1) + "\n")


def trained(out: Path) -> tuple[Path, Path]:
    """A classifier of digits and its source."""
    from few_labels import SETS

    from discern.data.synthetic import DigitsConfig, write_digits

    folder = out / "data" / "digits"
    if not folder.exists():
        write_digits(folder, config=DigitsConfig(train_clips=0, test_clips=0))
    SETS["digits"] = {"labels": None, "settings": []}
    args = argparse.Namespace(data="digits", out=out)
    discern("train", folder, args, out / "attacks-model", 0, 0.5)
    return out / "attacks-model", folder


def opened(run: Path, source: Path) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A classifier, and test items in [0, 1]."""
    from discern.data.badfiles import BadFiles
    from discern.evaluate.evaluate import measured_sets
    from discern.predict import load

    bundle = load(run)
    (items,) = measured_sets(bundle, [str(source)], BadFiles(None)).values()
    count = min(ITEMS, len(items))
    some = items.subset(np.random.default_rng(0).permutation(len(items))[:count])
    frames = torch.from_numpy(some.take(np.arange(len(some)))).permute(0, 4, 1, 2, 3)
    return bundle.model.eval(), frames.float() / 255, torch.from_numpy(some.labels)


def ours(
    model: nn.Module, clip: torch.Tensor, label: torch.Tensor, name: str, eps: float
) -> dict[str, Any]:
    from discern.security.attacks import right, run
    from discern.security.change import Ball

    started = time.perf_counter()
    moved = run(name, model, clip * 2 - 1, label, Ball(eps=eps), seed=0, steps=STEPS[name])
    seconds = time.perf_counter() - started
    left = float(right(model, moved, label).float().mean())
    return {"ours": left, "ours_seconds": seconds, "mine": ((moved + 1) / 2).numpy()}


def theirs(
    model: nn.Module, clip: torch.Tensor, label: torch.Tensor, name: str, eps: float
) -> dict[str, Any]:
    from art.attacks.evasion import (
        AutoProjectedGradientDescent,
        FastGradientMethod,
        ProjectedGradientDescentPyTorch,
        SquareAttack,
    )
    from art.estimators.classification import PyTorchClassifier

    class Flat(nn.Module):
        """ART's images have no time."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return model(x.unsqueeze(2) * 2 - 1)

    images = clip[:, :, 0].numpy()
    classifier = PyTorchClassifier(
        Flat(),
        nn.CrossEntropyLoss(),
        images.shape[1:],
        int(label.max()) + 1,
        clip_values=(0, 1),
        device_type="cpu",
    )
    shared = {"eps": eps, "batch_size": 64}
    steps = STEPS[name]
    apgd = {**shared, "norm": np.inf, "eps_step": 2 * eps, "max_iter": steps, "nb_random_init": 1}
    makers = {
        "fgsm": lambda: FastGradientMethod(classifier, **shared),
        "pgd": lambda: ProjectedGradientDescentPyTorch(
            classifier, eps_step=2.5 * eps / steps, max_iter=steps, num_random_init=1, **shared
        ),
        "apgd_ce": lambda: AutoProjectedGradientDescent(
            classifier, loss_type="cross_entropy", verbose=False, **apgd
        ),
        "square": lambda: SquareAttack(
            classifier,
            norm=np.inf,
            max_iter=steps,
            eps=eps,
            nb_restarts=1,
            batch_size=64,
            verbose=False,
        ),
    }
    started = time.perf_counter()
    moved = makers[name]().generate(images, label.numpy())
    seconds = time.perf_counter() - started
    left = float((classifier.predict(moved).argmax(1) == label.numpy()).mean())
    return {"art": left, "art_seconds": seconds, "its": moved[:, :, None]}


if __name__ == "__main__":
    main()
