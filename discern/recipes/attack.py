"""`discern attack`: a model and labelled items in; how it breaks, in numbers and a report, out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from discern.clip import Kind
from discern.data.augment import to_float, to_uint8
from discern.data.badfiles import BadFiles
from discern.data.clipset import ClipSet
from discern.data.loader import as_batch
from discern.errors import UsageError
from discern.evaluate.evaluate import BLOCK, measured_sets
from discern.evaluate.metrics import clopper_pearson
from discern.log import Run
from discern.models.model import Model
from discern.models.weights import Bundle
from discern.models.witness import Witness
from discern.predict import load, require_classifier
from discern.recipes.progress import progress_bar
from discern.report.page import write_report
from discern.security import smoothing
from discern.security.attacks import AT_ONCE, BLACK_BOX, STEPS, right, run
from discern.security.change import Ball
from discern.security.corruptions import CORRUPTIONS, IN_TIME, SEVERITIES
from discern.security.joint import joint
from discern.security.smoothing import ABSTAINED, SmoothConfig
from discern.security.suite import STANDARD, red_flags, suite

SUITES = {"quick": ("fgsm", "pgd"), "standard": STANDARD}
ITEMS = 500
CURVE = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0)  # of the stated size
CURVE_ITEMS, CURVE_STEPS = 128, 20
GUARD_ITEMS = 128
FRAGILE = 12  # items that are listed
PROVEN_ITEMS = 100  # each is asked about a thousand times
RADII = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)  # of the noise


def attack(
    model: Path | str,
    source: Sequence[str] | str,
    out: Path | str | None = None,
    *,
    norm: str = "linf",
    eps: float = 8 / 255,
    names: str = "quick",
    items: int = ITEMS,
    steps: int | None = None,
    seed: int = 0,
    at_least: float | None = None,
    certify: float | None = None,
) -> dict[str, Any]:
    """Attack the items that `evaluate` would measure on, at most `items` of each kind.

    `eps` is of pixels in [0, 1], and so is the noise `certify`, under which answers are proven by
    randomized smoothing.  With `out` a run folder with a report is written.  `exit_code` is 5 where
    less than `at_least` stay right.  Raises UsageError, DataError, IntegrityError.
    """
    if names not in SUITES:
        raise UsageError(f"--suite {names}: there are {', '.join(SUITES)}")
    started = time.monotonic()
    bundle = load(model)
    require_classifier(bundle)
    if bundle.certainty.several:
        raise UsageError(f"{bundle.path}: it gives several labels an item: attacks here change one")
    specs = [source] if isinstance(source, str) else list(source)
    ball = Ball(norm=norm, eps=eps)  # type: ignore[arg-type]  # checked by the command line
    settings = {"model": str(model), "source": specs, "norm": norm, "eps": eps, "suite": names}
    settings |= {"items": items, "steps": steps, "seed": seed, "certify": certify}
    if out is None:
        results = _attacked(bundle, specs, None, ball, names, items, steps, seed, certify)
    else:
        with Run.open(Path(out), "attack", settings) as folder:
            results = _attacked(bundle, specs, folder.out, ball, names, items, steps, seed, certify)
            results["seconds"] = time.monotonic() - started
            _judge(results, at_least)
            folder.results(results)
            results["report"] = str(write_report(folder.out))
    results["seconds"] = time.monotonic() - started
    _judge(results, at_least)
    return results


def _attacked(
    bundle: Bundle,
    specs: Sequence[str],
    out: Path | None,
    ball: Ball,
    names: str,
    most: int,
    steps: int | None,
    seed: int,
    certify: float | None,
) -> dict[str, Any]:
    bad = BadFiles(None if out is None else out / "bad_files.jsonl")
    sets = measured_sets(bundle, specs, bad)
    blocks = {
        kind: _kind(bundle, kind, _some(one, most, seed), ball, names, steps, seed, certify)
        for kind, one in sets.items()
    }
    results: dict[str, Any] = {"verb": "attack", "model": str(bundle.path), "target": None}
    results |= {"stopped_by": None, "bad_files": len(bad)}
    if len(blocks) == 1:
        (block,) = blocks.values()
        return results | block
    return results | {BLOCK[kind]: block for kind, block in blocks.items()}


def _kind(
    bundle: Bundle,
    kind: Kind,
    items: ClipSet,
    ball: Ball,
    names: str,
    steps: int | None,
    seed: int,
    certify: float | None,
) -> dict[str, Any]:
    """All numbers of one kind of item."""
    model = bundle.model
    clip, label = _clips(items)
    clean = right(model, clip, label)
    with progress_bar(f"attacking {BLOCK[kind]}") as bar:
        found = suite(
            model, clip, label, ball, names=SUITES[names], seed=seed, steps=steps, progress=bar
        )
        bar(0.6, "red flags")
        flags = red_flags(model, clip, label, ball, seed=seed)
        bar(0.7, "other sizes")
        curve, falls_at = _curve(model, clip, label, ball, seed)
        bar(0.9, "guard and corruptions")
        guard = _guard(bundle, kind, clip, label, found.worst, ball, seed)
        spoiled = _corruptions(model, items, label, kind, seed)
        proven = None if certify is None else _proven(model, clip, label, certify, seed, bar)
    few = any(name == "apgd_dlr" for name in SUITES[names]) and len(bundle.labels) < 4
    notes = ["fewer than 4 classes: the targeted ratio is undefined"] if few else []
    return {
        "accuracy": float(clean.float().mean()),
        "accuracy_interval": _interval(clean),
        "samples": len(label),
        "attack": {
            "norm": ball.norm,
            "eps": ball.eps,
            "suite": names,
            "steps": {name: _steps(name, steps) for name in SUITES[names]},
            "after": found.accuracy,
            "worst_case": float(found.stands.float().mean()),
            "worst_case_interval": _interval(found.stands),
            "flags": flags,
            "curve": curve,
            "fragile": _fragile(items, bundle.labels, label, clean, falls_at),
            "guard": guard,
            "corruptions": spoiled,
            "smoothing": proven,
            "notes": notes,
        },
    }


def _curve(
    model: Model, clip: Tensor, label: Tensor, ball: Ball, seed: int
) -> tuple[list[list[float]], Tensor]:
    """[size, share that stays right] by PGD; and at which size each item falls, infinite if never.

    An item that fell stays down at larger sizes, where a search of few steps may miss it.
    """
    clip, label = clip[:CURVE_ITEMS], label[:CURVE_ITEMS]
    stands = right(model, clip, label)
    falls_at = torch.where(stands, torch.inf, 0.0)
    curve = [[0.0, float(stands.float().mean())]]
    for share in CURVE:
        size = Ball(norm=ball.norm, eps=ball.eps * share)
        where = torch.nonzero(stands)[:, 0]
        if len(where):
            moved = run("pgd", model, clip[where], label[where], size, seed=seed, steps=CURVE_STEPS)
            held = right(model, moved, label[where])
            falls_at[where[~held]] = size.eps
            stands[where] = held
        curve.append([size.eps, float(stands.float().mean())])
    return curve, falls_at


def _fragile(
    items: ClipSet, names: Sequence[str], label: Tensor, clean: Tensor, falls_at: Tensor
) -> list[dict[str, Any]]:
    """Items that are right and fall at the least change."""
    order = [int(i) for i in torch.argsort(falls_at, stable=True) if clean[i] and falls_at[i] < 1e9]
    return [
        {"key": items.key(i), "label": names[int(label[i])], "eps": float(falls_at[i])}
        for i in order[:FRAGILE]
    ]


def _guard(
    bundle: Bundle, kind: Kind, clip: Tensor, label: Tensor, worst: Tensor, ball: Ball, seed: int
) -> dict[str, Any] | None:
    """What the guard makes of attacked items, and of those that were made to pass it."""
    guard = bundle.certainty.guard(kind)
    if guard is None:
        return None
    clip, label, worst = clip[:GUARD_ITEMS], label[:GUARD_ITEMS], worst[:GUARD_ITEMS]
    witness = Witness(bundle.model, head=bundle.certainty.asks_head)

    def parts(moved: Tensor) -> tuple[Tensor, Tensor]:
        seen = witness(moved)
        return seen.logits, guard.strangeness(seen) / guard.threshold

    @torch.no_grad()
    def share(moved: Tensor) -> dict[str, float]:
        said = witness(moved)
        flagged = guard.strangeness(said).numpy() > guard.threshold
        wrong = (said.logits.argmax(dim=1) != label).numpy()
        return {
            "wrong": float(wrong.mean()),
            "flagged": float(flagged.mean()),
            "wrong_and_passed": float((wrong & ~flagged).mean()),
        }

    both = [
        joint(
            parts,
            clip[first : first + AT_ONCE],
            label[first : first + AT_ONCE],
            ball,
            torch.Generator().manual_seed(seed * 1_000_003 + first),
        )
        for first in range(0, len(clip), AT_ONCE)
    ]
    shares = {"clean": share(clip), "attacked": share(worst), "joint": share(torch.cat(both))}
    return {"samples": len(clip), **shares}


def _corruptions(
    model: Model, items: ClipSet, label: Tensor, kind: Kind, seed: int
) -> dict[str, list[float]]:
    """Accuracy at each severity, of each corruption."""
    pixels = to_uint8(_clips(items)[0])
    table = CORRUPTIONS | (IN_TIME if kind is Kind.CLIP else {})
    found: dict[str, list[float]] = {}
    for number, (name, spoil) in enumerate(table.items()):
        found[name] = []
        for severity in SEVERITIES:
            rng = torch.Generator().manual_seed(seed * 1_000_003 + number)
            spoiled = to_float(spoil(pixels, severity, rng))
            found[name].append(float(right(model, spoiled, label).float().mean()))
    return found


def _proven(
    model: Model,
    clip: Tensor,
    label: Tensor,
    sigma: float,
    seed: int,
    bar: Callable[[float, str], None],
) -> dict[str, Any]:
    """What the smoothed model gets right, and up to which change that is proven."""
    config = SmoothConfig(sigma=sigma)
    clip, label = clip[:PROVEN_ITEMS], label[:PROVEN_ITEMS]
    answers, radii = [], []
    for number in range(len(clip)):
        bar(0.9 + 0.1 * number / len(clip), f"proving {number + 1} of {len(clip)}")
        rng = torch.Generator().manual_seed(seed * 1_000_003 + number)
        answer, radius = smoothing.certify(model, clip[number : number + 1], config, rng)
        answers.append(answer)
        radii.append(radius)
    answer, radius = torch.cat(answers), torch.cat(radii)
    holds = answer == label
    return {
        "sigma": sigma,
        "samples": len(label),
        "copies": config.many,
        "chance_of_error": config.alpha,
        "accuracy": float(holds.float().mean()),
        "accuracy_interval": _interval(holds),
        "abstained": float((answer == ABSTAINED).float().mean()),
        # radius, in L2 of pixels in [0, 1] -> share that is right and proven up to it
        "curve": [
            [sigma * step, float((holds & (radius >= sigma * step)).float().mean())]
            for step in RADII
        ],
        "median_radius": float(radius.median()),
    }


def _judge(results: dict[str, Any], at_least: float | None) -> None:
    """The verdict in words, and the exit code of the gate."""
    blocks = [results[name] for name in BLOCK.values() if name in results] or [results]
    worst = min(block["attack"]["worst_case"] for block in blocks)
    flags = [flag for block in blocks for flag in block["attack"]["flags"]]
    how = blocks[0]["attack"]
    size = f"{how['norm']} {how['eps']:.4g}"
    if flags:
        results["verdict"] = (
            f"{worst:.1%} stay right under {size}, and the number may flatter: {'; '.join(flags)}"
        )
    else:
        results["verdict"] = f"robust accuracy {worst:.1%} under {size} ({how['suite']} suite)"
    results["exit_code"] = 5 if at_least is not None and worst < at_least else 0


def _clips(items: ClipSet) -> tuple[Tensor, Tensor]:
    """-> float [N, C, T, H, W], int64 [N]"""
    places = np.arange(len(items))
    batch = as_batch(items.take_even(places), items.labels, places)
    assert batch.label is not None
    return to_float(batch.clip), batch.label


def _some(items: ClipSet, most: int, seed: int) -> ClipSet:
    order = np.random.default_rng([seed, 17]).permutation(len(items))[:most]
    return items.subset(np.sort(order))


def _steps(name: str, steps: int | None) -> int:
    return STEPS[name] if steps is None or name in (*BLACK_BOX, "fgsm") else steps


def _interval(held: Tensor) -> list[float] | None:
    return clopper_pearson(int(held.sum()), len(held))
