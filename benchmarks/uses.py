"""What people use it for, beside hand-crafted features: the parts that such tables share."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from few_labels import discern, interval

Training = Callable[[int], dict[str, Any]]  # a seed -> what its training says, and its `run`
KEPT = ("validation_accuracy", "steps", "ece", "minutes", "command")


@dataclass(frozen=True)
class Use:
    """A recipe on a data set."""

    recipe: str
    data: str
    pico_minutes: tuple[float, float]  # of pre-training, of tuning
    pico_words: tuple[str, ...] = ("--size", "pico")


def arguments(
    about: str | None, kinds: Sequence[str] = (), minutes: float = 25.0
) -> argparse.Namespace:
    """What such a table is told; all that follows uses one thread.

    Of several `kinds` of trainings it may be told to leave some for a later run.
    """
    assert about is not None
    parser = argparse.ArgumentParser(description=about.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=minutes)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    parser.add_argument(
        "--train-only",
        action="store_true",
        help="train now and measure in a later run: several of these may go beside each other",
    )
    if kinds:
        parser.add_argument("--kinds", nargs="+", choices=kinds, default=kinds)
    os.environ["OMP_NUM_THREADS"] = "1"
    return parser.parse_args()


def train_all(kinds: dict[str, Training], seeds: Sequence[int]) -> None:
    """All trainings of a table, of which nothing is measured yet."""
    for seed in seeds:
        for training in kinds.values():
            training(seed)


class Trainings:
    """The run folders of a use; what is there is not trained again."""

    def __init__(self, use: Use, args: argparse.Namespace, folder: Path) -> None:
        self.use, self.args, self.folder = use, args, folder
        args.data = use.data
        self.home = args.out / use.recipe

    def shipped(self, seed: int) -> dict[str, Any]:
        """From the weights that ship."""
        return self._tuned(self.home / str(seed), seed, "--from", "discern-nano")

    def scratch(self, seed: int) -> dict[str, Any]:
        """From none, in the same minutes."""
        return self._tuned(self.home / f"scratch-{seed}", seed)

    def pico(self, seed: int) -> dict[str, Any]:
        """Size `pico`, pre-trained on the same items and tuned."""
        work = self.home / f"pico-{seed}"
        before, after = self.use.pico_minutes
        more = ("--recipe", self.use.recipe, *self.use.pico_words)
        first = discern("pretrain", self.folder, self.args, work / "p", seed, before, *more)
        shutil.rmtree(work / "p" / "checkpoints", ignore_errors=True)
        return {
            **self._tuned(work / "t", seed, "--from", str(work / "p"), minutes=after),
            "pretrain_minutes": first["minutes"],
            "pretrain_command": first["command"],
        }

    def _tuned(
        self, work: Path, seed: int, *more: str, minutes: float | None = None
    ) -> dict[str, Any]:
        words = ("--recipe", self.use.recipe, *more)
        minutes = self.args.minutes if minutes is None else minutes
        found = discern("train", self.folder, self.args, work, seed, minutes, *words)
        shutil.rmtree(work / "checkpoints", ignore_errors=True)
        return {name: found[name] for name in KEPT} | {"run": work}


def measured(training: Training, seed: int, folder: Path, **words: Any) -> dict[str, Any]:
    """A run's accuracy and time, measured when nothing is trained; `words` are of `evaluate`."""
    from discern.evaluate.evaluate import evaluate

    found = training(seed)
    run = found.pop("run")
    with tempfile.TemporaryDirectory(prefix="discern-uses-") as home:
        said = evaluate(run, str(folder), Path(home) / "found", **words)
    return found | {name: said[name] for name in ("accuracy", "microseconds_per_item")}


def summary(
    cells: dict[str, Any], ours: Sequence[str], methods: Sequence[str], ahead: float
) -> dict[str, Any]:
    """method -> accuracy and time, and how far ours are ahead of the best hand-crafted one.

    `ahead` is how far they shall be.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, one in cells.items():
        groups.setdefault(name.partition("/")[0], []).append(one)
    found = {
        method: {
            key: interval([one[key] for one in rows])
            for key in ("accuracy", "microseconds_per_item")
        }
        for method, rows in groups.items()
    }
    if not {ours[0], *methods} <= set(found):  # not yet filled
        return {"summary": found}
    best = max(found[method]["accuracy"]["mean"] for method in methods)
    margins = {name: found[name]["accuracy"]["mean"] - best for name in ours if name in found}
    missed = {name: max(0.0, ahead - points) for name, points in margins.items()}
    return {"summary": found, "ahead_of_the_best": margins, "missed_by": missed}
