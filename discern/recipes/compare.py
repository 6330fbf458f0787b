"""`discern compare`: pre-trained, from scratch and hand-crafted on the same labels and tests."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from discern import config as configuration
from discern.baselines.table import BASELINES
from discern.clip import Kind
from discern.data.badfiles import BadFiles
from discern.data.clipset import ClipSet
from discern.data.items import Source, require_classes
from discern.errors import UsageError
from discern.evaluate.evaluate import BLOCK
from discern.evaluate.metrics import metrics
from discern.log import Run
from discern.recipes.fit import AUTO
from discern.recipes.prepare import divide, has_several, load_sets, open_checked
from discern.recipes.pretrain import pretrain, require_one_encoder
from discern.recipes.progress import progress_bar
from discern.recipes.train import train
from discern.report.page import write_report
from discern.train.settings import RunConfig

# minutes of pre-training for each minute of tuning, where there is no model to start from
PRETRAIN_SHARE = 3.0
DEFAULT_MINUTES = 5.0
MAX_BASELINE_ITEMS = 5000  # kernel machines grow with the square

Blocks = dict[str, dict[str, dict[str, Any]]]  # kind -> method -> results


def compare(
    source: Sequence[str] | str,
    out: Path | str,
    *,
    labels: Sequence[int | str] = ("all",),
    minutes: float | None = None,
    base: Path | str | None = None,
    size: str | None = None,
    seed: int = 0,
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Tune from the base and from scratch, fit the hand-crafted methods, put them side by side.

    Without a base it is pre-trained first, for three times as long, and from scratch gets as many
    minutes as the two together.  Blocks of results.json are those of the most labels; with several
    label counts each has its own blocks under `labels`.  Raises as `train` does.
    """
    started = time.monotonic()
    specs = [source] if isinstance(source, str) else list(source)
    data = open_checked(specs)
    require_classes(data)
    if size == AUTO:
        raise UsageError("--size auto: name a size here, so that all trainings have the same")
    if has_several(data):
        raise UsageError(
            f"{data.spec}: items have several labels: hand-crafted methods here take one"
        )
    require_one_encoder(base, size)
    minutes = minutes or DEFAULT_MINUTES
    counts = sorted(set(labels), key=lambda count: float("inf") if count == "all" else int(count))
    settings = {"source": specs, "labels": counts, "minutes": minutes, "base": base and str(base)}
    settings |= {"seed": seed, "size": size, "overrides": list(overrides)}
    with Run.open(Path(out), "compare", settings) as run:
        pretrain_minutes = 0.0
        if base is None:
            base = run.out / "pretrained"
            pretrain_minutes = PRETRAIN_SHARE * minutes
            if finished(base) is None:
                pretrain(
                    specs,
                    base,
                    size=size,
                    minutes=pretrain_minutes,
                    seed=seed,
                    overrides=overrides,
                )
        found = {
            str(count): compare_at(
                specs,
                run.out,
                count,
                minutes=minutes,
                pretrain_minutes=pretrain_minutes,
                base=base,
                seed=seed,
                overrides=overrides,
            )
            for count in counts
        }
        results: dict[str, Any] = dict(found[str(counts[-1])])
        if len(found) > 1:
            results["labels"] = found
        results |= {"verb": "compare", "seconds": time.monotonic() - started}
        run.results(results)
        results["report"] = str(write_report(run.out))
    return results


def compare_at(
    specs: Sequence[str],
    out: Path,
    count: int | str,
    *,
    minutes: float,
    base: Path | str,
    pretrain_minutes: float = 0.0,
    seed: int = 0,
    overrides: Sequence[str] = (),
    target: float | None = None,
) -> Blocks:
    """All methods at one number of labels per class.

    From scratch gets the minutes in which the base was pre-trained as well, where they are known;
    the pre-trained model's blocks then have them as `pretrain_seconds`.
    """
    blocks: Blocks = {}
    labels = None if count == "all" else int(count)
    ways = (("pretrained", base, minutes), ("scratch", None, pretrain_minutes + minutes))
    for method, start, budget in ways:
        folder = out / f"{method}-{count}"
        results = finished(folder) or train(
            specs,
            folder,
            base=start,
            # a run from scratch has the same settings, and no target that could end it early
            target_accuracy=target if method == "pretrained" else None,
            minutes=budget,
            labels=labels,
            seed=seed,
            overrides=[*(_shape_of(out, count) if start is None else ()), *overrides],
        )
        _add(blocks, method, results, folder)
    if pretrain_minutes:
        before = {"pretrain_seconds": (finished(base) or {}).get("train_seconds")}
        for methods in blocks.values():
            methods["pretrained"] = methods["pretrained"] | before
    for kind, name, block in handcrafted(specs, out / f"pretrained-{count}"):
        blocks.setdefault(kind, {})[name] = block
    return blocks


def handcrafted(specs: Sequence[str], tuned: Path) -> list[tuple[str, str, dict[str, Any]]]:
    """(kind, method, results) of each hand-crafted method, on the items of a tuned run."""
    source = open_checked(specs)
    config = settings_of(tuned)
    parts = divide(source, config.data, tuned)
    bad = BadFiles(None, allowed=1.0)
    known = load_sets(source, [*parts.labelled, *parts.val], config, bad, classes=parts.classes)
    test = load_sets(source, parts.splits.test, config, bad, classes=parts.classes)
    groups = _groups(source, known)
    found = []
    for name, baseline in BASELINES.items():
        for kind in baseline.kinds:
            if kind not in known or kind not in test:
                continue
            with progress_bar(f"fitting {name}"):
                started = time.monotonic()
                some = _spread(known[kind], MAX_BASELINE_ITEMS)
                fitted = baseline.fit(
                    some.take_even(), some.labels, len(parts.classes), groups=groups.get(kind)
                )
                _, probabilities = fitted.predict(test[kind].take_even())
            block = metrics(test[kind].labels, probabilities, parts.classes)
            block |= {
                "microseconds_per_item": 1e6 * fitted.seconds_per_item,
                "train_seconds": fitted.train_seconds,
                "seconds": time.monotonic() - started,
                "labels_used": len(some),
                "guard": None,
                "stopped_by": None,
                "target": None,
            }
            found.append((BLOCK[kind], name, block))
    return found


def settings_of(folder: Path) -> RunConfig:
    """The resolved settings of a run folder."""
    stored = json.loads((folder / "config.json").read_text())["settings"]
    names = set(configuration.to_dict(RunConfig(objective="supervised")))
    return configuration.from_dict(RunConfig, {k: v for k, v in stored.items() if k in names})


def _add(blocks: Blocks, method: str, results: dict[str, Any], folder: Path) -> None:
    """File a training's results under its kinds."""
    shared = ("seconds", "train_seconds", "stopped_by", "target", "steps", "labels_used")
    kinds = [name for name in BLOCK.values() if isinstance(results.get(name), dict)]
    if kinds:
        for name in kinds:
            rest = {key: results.get(key) for key in shared}
            blocks.setdefault(name, {})[method] = {**results[name], **rest}
        return
    config = settings_of(folder)
    source = open_checked(_source_of(folder))
    kind = source.items[divide(source, config.data, folder).labelled[0]].kind
    blocks.setdefault(BLOCK[kind], {})[method] = results


def _source_of(folder: Path) -> list[str]:
    return list(json.loads((folder / "config.json").read_text())["settings"]["source"])


def _shape_of(out: Path, count: int | str) -> list[str]:
    """Overrides that give the scratch run the encoder and the input of the pre-trained one."""
    config = settings_of(out / f"pretrained-{count}")
    parts = {"backbone": config.backbone, "data.preprocess": config.data.preprocess}
    return [
        f"{part}.{name}={json.dumps(value)}"
        for part, shape in parts.items()
        for name, value in configuration.to_dict(shape).items()
    ]


def finished(folder: Path | str) -> dict[str, Any] | None:
    """Results of a training that an earlier start has finished."""
    path = Path(folder) / "results.json"
    return json.loads(path.read_text()) if path.exists() else None


def _spread(items: ClipSet, most: int) -> ClipSet:
    if len(items) <= most:
        return items
    return items.subset(np.random.default_rng(0).permutation(len(items))[:most])


def _groups(source: Source, sets: dict[Kind, ClipSet]) -> dict[Kind, np.ndarray]:
    """Group numbers for cross-validation, where the source has groups."""
    found = {}
    for kind, items in sets.items():
        names = [source.items[index].group for index in items.indices]
        if any(names):
            found[kind] = np.unique([str(name) for name in names], return_inverse=True)[1]
    return found
