"""`discern pretrain`: sources in, a pre-trained model in a run folder out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from discern import config as configuration
from discern.clip import Kind
from discern.errors import Interrupted, UsageError
from discern.log import Run
from discern.models.public import load_start
from discern.models.weights import save_bundle
from discern.recipes import images
from discern.recipes.codes import settle_codes
from discern.recipes.fit import AUTO, fitted
from discern.recipes.looks import Probe, Samples, together
from discern.recipes.prepare import (
    divide,
    fresh_list,
    load_sets,
    open_checked,
    shaped_for,
)
from discern.recipes.progress import progress_bar
from discern.recipes.samples import sample_sheets
from discern.report.page import write_report
from discern.repro import versions
from discern.train.bounds import within_bounds
from discern.train.build import build_objective, pretrained_model
from discern.train.run import budgeted, train_objective
from discern.train.settings import RunConfig

MAY_CHANGE = (
    "threads",
    "device",
    "precision",
    "loop.log_seconds",
    "loop.evaluations",
    "loop.saves",
    "loop.divide",
    "guard",
)


def pretrain(
    sources: Sequence[str] | str,
    out: Path | str,
    *,
    recipe: str | None = None,
    size: str | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    base: Path | str | None = None,
    seed: int = 0,
    overrides: Sequence[str] = (),
    strict: bool = False,
    allow_change: bool = False,
) -> dict[str, Any]:
    """Learn from images and clips without labels.

    The same call on an unfinished run resumes it exactly.  Labels, where there are any, serve only
    the k-NN probe in the log.  Items of a test split are never seen.  Raises as `train` does.
    """
    specs = [sources] if isinstance(sources, str) else list(sources)
    source = open_checked(specs)
    config = images.sized(replace(images.recipe(recipe), seed=seed), size, overrides)
    require_one_encoder(base, size)
    start = None if base is None else load_start(base)
    shape = partial(shaped_for, source=source)
    if size == AUTO:
        config = fitted(config, shape, source, Path(out), minutes, pretraining=True)
    else:
        config = shape(config)
    if start is not None:
        config = replace(config, backbone=start.model.config.backbone)
        painter = start.model.config.generator
        if painter is not None:  # of an older one the places are not centred: it goes on as it is
            config = replace(config, generator=replace(config.generator, centred=painter.centred))
        preprocess = configuration.from_dict(type(config.data.preprocess), start.preprocess)
        config = replace(config, data=replace(config.data, preprocess=preprocess))
        if start.public:
            config = images.from_public(config)
    config = images.for_stem(config, overrides)
    if any(item.kind is not Kind.IMAGE for item in source.items):
        config = images.zoomed(config, overrides)
    config = images.for_device(config, overrides)
    config = configuration.override(config, overrides)
    config = replace(config, loop=budgeted(config.loop, minutes, steps, images.PRETRAIN_MINUTES))
    within_bounds(config, pretraining=True)
    settings = {"source": specs, "base": None if base is None else str(base)}
    settings |= configuration.to_dict(config)
    with Run.open(Path(out), "pretrain", settings, allow_change, MAY_CHANGE) as run:
        return _pretrain(run, source, config, start, strict)


def require_one_encoder(base: Path | str | None, size: str | None) -> None:
    """Raise UsageError where two flags say which encoder it is."""
    if base is not None and size is not None:
        raise UsageError(
            f"--size {size}: --from {base} brings its own encoder: leave one of them out"
        )


def _pretrain(run: Run, source: Any, config: RunConfig, start: Any, strict: bool) -> dict[str, Any]:
    started = time.monotonic()
    parts = divide(source, config.data, run.out)
    bad = fresh_list(run.out, config.data, strict)
    labelled = [*parts.labelled, *parts.val]
    with progress_bar("reading") as bar:
        sets = load_sets(
            source,
            labelled,
            config,
            bad,
            classes=parts.classes,
            unlabelled=parts.rest,
            progress=lambda done, total: bar(done / total, f"{done} of {total} items"),
        )
    objective = build_objective(config, None if start is None else start.model)
    probe, samples = Probe(objective, sets, config.seed), Samples(objective, sets, config)
    looks = [look for look in (probe, samples) if look.sets]
    with progress_bar("pre-training") as bar:
        outcome, signal = train_objective(
            objective, sets, config, run, evaluate=together(looks) if looks else None, report=bar
        )
    if signal is not None and outcome.stopped_by == "signal":
        raise Interrupted(run.out, signal)
    model = pretrained_model(objective.cpu())
    settle_codes(model, sets, config.seed)
    made = {
        "verb": "pretrain",
        "source": source.spec,
        "versions": versions(),
        "step": outcome.state.step,
    }
    items = sum(map(len, sets.values()))
    made |= {"minutes": outcome.state.seconds / 60, "seed": config.seed, "items": items}
    save_bundle(
        run.out / "model",
        model,
        labels=[],
        preprocess=configuration.to_dict(config.data.preprocess),
        made=made,
    )
    sample_sheets(model, sets, run.out, config.seed)
    results = {
        "verb": "pretrain",
        "stopped_by": outcome.stopped_by,
        "target": None,
        "steps": outcome.state.step,
        "seconds": time.monotonic() - started,
        "train_seconds": outcome.state.seconds,
        "samples": items,
        "kinds": {str(kind): len(one) for kind, one in sets.items()},
        "bad_files": len(bad),
        "knn": probe.last,
        "sample_quality": samples.last,
        "model": str(run.out / "model"),
    }
    run.results(results)
    results["report"] = str(write_report(run.out))
    results["exit_code"] = 0 if outcome.stopped_by != "diverged" else 3
    return results
