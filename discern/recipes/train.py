"""`discern train`: a labelled source in; a tuned model, its test results and a report out."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from discern import config as configuration
from discern.clip import Kind
from discern.data.clipset import ClipSet
from discern.data.items import Source, require_classes
from discern.errors import DataError, Interrupted, UsageError
from discern.evaluate.evaluate import accuracy, measure
from discern.log import Run
from discern.models.public import load_start
from discern.models.weights import Bundle, save_bundle
from discern.objectives.supervised import Supervised
from discern.recipes import images
from discern.recipes.certainty import learn_certainty
from discern.recipes.codes import learn_class_codes
from discern.recipes.fit import AUTO, fitted
from discern.recipes.head import fit_head
from discern.recipes.prepare import (
    Parts,
    divide,
    fresh_list,
    has_several,
    load_sets,
    open_checked,
    shaped_for,
)
from discern.recipes.pretrain import MAY_CHANGE, require_one_encoder
from discern.recipes.progress import progress_bar
from discern.recipes.samples import sample_sheets
from discern.recipes.unlabelled import joined_with_unlabelled
from discern.report.page import write_report
from discern.repro import versions
from discern.train.bounds import within_bounds
from discern.train.build import build_objective, tuned_model
from discern.train.loop import Outcome
from discern.train.run import budgeted, choose_device, train_objective
from discern.train.settings import RunConfig


def train(
    source: Sequence[str] | str,
    out: Path | str,
    *,
    base: Path | str | None = None,
    recipe: str | None = None,
    target_accuracy: float | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    patience: int | None = None,
    labels: int | None = None,
    unlabelled: Sequence[str] | str | None = None,
    size: str | None = None,
    seed: int = 0,
    batch: int | None = None,
    rate: float | None = None,
    overrides: Sequence[str] = (),
    strict: bool = False,
    allow_change: bool = False,
    on_evaluation: Callable[[float], None] | None = None,
    test: bool = True,
) -> dict[str, Any]:
    """Tune a classifier to the target or to the end of budget or patience; then test it once.

    With a source of `unlabelled` items it learns from these too, and from those of `source` without
    a label in use; from the latter also when it tunes a pre-trained `base` on images for minutes.
    `on_evaluation` is told each validation accuracy; without `test` the test split is left alone.
    `exit_code` in the answer is 0 when the target was met or none was set, else 3.
    The same call on an unfinished run resumes it exactly.  Raises UsageError, ConfigError,
    DataError, IntegrityError, and Interrupted after a signal.
    """
    specs = [source] if isinstance(source, str) else list(source)
    others = [unlabelled] if isinstance(unlabelled, str) else list(unlabelled or ())
    data = open_checked(specs)
    require_classes(data)
    require_one_encoder(base, size)
    start = None if base is None else load_start(base)
    several = has_several(data)
    times = 1.0
    if start is None:  # an untrained encoder's answers teach nothing at first, and some never
        soon = images.learns_fast(recipe, size, overrides)
        times = images.SEMI_TIMES if soon else math.inf
    rest_pays = not several and _rest_pays(data, labels, minutes, steps, times)
    semi = bool(others) or rest_pays
    shape = partial(shaped_for, source=data)

    def fit(shapeless: RunConfig) -> RunConfig:
        return fitted(shapeless, shape, data, Path(out), minutes, pretraining=False)

    config = configured(
        images.used_for(images.tuning("semi" if semi else "supervised", overrides), recipe),
        fit if size == AUTO else shape,
        start,
        size=size,
        seed=seed,
        batch=batch,
        rate=rate,
        overrides=overrides,
    )
    loop = config.loop  # a flag goes before `--set loop.patience`
    if target_accuracy is not None:
        loop = replace(loop, target_accuracy=target_accuracy)
    if patience is not None:
        loop = replace(loop, patience=patience)
    config = replace(config, loop=budgeted(loop, minutes, steps, images.TRAIN_MINUTES))
    within_bounds(config, pretraining=False)
    if several and (config.objective != "supervised" or config.supervised.generated > 0):
        raise UsageError(
            f"{data.spec}: items have several labels: neither --unlabeled, --harden nor generated "
            "items can be used with them"
        )
    if others and config.objective not in images.NAMELESS:
        raise UsageError(f"--unlabeled: objective={config.objective} learns from labels only")
    settings = {"source": specs, "base": None if base is None else str(base), "labels": labels}
    settings |= {"unlabelled": others}
    settings |= configuration.to_dict(config)
    with Run.open(Path(out), "train", settings, allow_change, MAY_CHANGE) as run:
        parts = divide(data, config.data, run.out, labels=labels, seed=seed)
        return _train(run, data, parts, others, config, start, strict, on_evaluation, test)


def configured(
    recipe: RunConfig,
    shape: Callable[[RunConfig], RunConfig],
    start: Bundle | None,
    *,
    size: str | None,
    seed: int,
    batch: int | None,
    rate: float | None,
    overrides: Sequence[str],
) -> RunConfig:
    """The settings of a tuning; `shape` gives canvas and patch where there is no base."""
    config = replace(recipe, seed=seed)
    if batch is not None:
        loader = replace(config.data.loader, batch_size=batch)
        config = replace(config, data=replace(config.data, loader=loader))
    if start is None:
        config = shape(images.sized(config, size, overrides))
    else:
        preprocess = configuration.from_dict(type(config.data.preprocess), start.preprocess)
        config = replace(
            config,
            backbone=start.model.config.backbone,
            data=replace(config.data, preprocess=preprocess),
        )
        config = images.from_public(config) if start.public else images.from_own(config)
    config = images.for_stem(config, overrides)
    if batch is None:
        config = images.for_device(config, overrides)
    config = replace(config, backbone=replace(config.backbone, drop_path=images.DROP_PATH))
    if rate is not None:
        config = replace(config, optim=replace(config.optim, rate=rate))
    return configuration.override(config, overrides)


def _rest_pays(
    source: Source,
    labels: int | None,
    minutes: float | None,
    steps: int | None,
    times: float = 1.0,
) -> bool:
    """Whether there are training items without a label in use, and time to learn from them.

    `times` as much as a pre-trained encoder needs.
    """
    if any(item.labels and item.kind is not Kind.IMAGE for item in source.items):
        return False
    if (images.TRAIN_MINUTES if minutes is None else minutes) < times * images.SEMI_MINUTES:
        return False
    if steps is not None and steps < times * images.SEMI_STEPS:
        return False
    counts = Counter(
        item.labels[0] if item.labels else None
        for item in source.items
        if item.split in (None, "train")
    )
    return counts.pop(None, 0) > 0 or (labels is not None and max(counts.values()) > labels)


def _train(
    run: Run,
    source: Source,
    parts: Parts,
    others: Sequence[str],
    config: RunConfig,
    start: Bundle | None,
    strict: bool,
    on_evaluation: Callable[[float], None] | None,
    tested: bool,
) -> dict[str, Any]:
    started = time.monotonic()
    bad = fresh_list(run.out, config.data, strict)
    nameless = parts.rest if config.objective in images.NAMELESS else []
    joined = source
    if others:
        joined, nameless = joined_with_unlabelled(source, nameless, others)
    known = (parts.labelled, parts.val, parts.splits.test if tested else [])
    chosen_parts: list[tuple[Source, list[int], list[int]]] = [  # with labels, without
        *((source, part, []) for part in known),
        (joined, [], nameless),
    ]
    with progress_bar("reading") as bar:
        sets, val, test, rest = (
            load_sets(
                of,
                chosen,
                config,
                bad,
                classes=parts.classes,
                unlabelled=unlabelled,
                progress=lambda done, total: bar(done / total, f"{done} of {total} items"),
                total=sum(map(len, (*known, nameless))),
                several=parts.several,
            )
            if chosen or unlabelled
            else {}
            for of, chosen, unlabelled in chosen_parts
        )
    if not sets:
        raise DataError(f"{source.spec}: no labelled item is left to train on")
    if config.loop.target_accuracy is not None and not val:
        raise DataError(
            f"{source.spec}: too few labels for a validation split, which a target needs"
        )
    base = None if start is None else start.model
    if base is not None and not parts.several:
        learn_class_codes(base, sets, len(parts.classes), config.seed)
    objective = build_objective(config, base, len(parts.classes))
    if base is not None and not parts.several:
        assert isinstance(objective, Supervised)
        fit_head(objective, sets, config.seed)
    average = objective.averages[0][1]

    def evaluate() -> dict[str, float]:
        found = accuracy(average, val)
        if on_evaluation is not None:
            on_evaluation(found)
        return {"accuracy": found}

    with progress_bar("tuning") as bar:
        outcome, signal = train_objective(
            objective,
            sets,
            config,
            run,
            evaluate=evaluate if val else None,
            report=bar,
            unlabelled=rest,
        )
    if signal is not None and outcome.stopped_by == "signal":
        raise Interrupted(run.out, signal)
    model = tuned_model(objective.cpu(), base).to(choose_device(config.device))
    results = _results(run, config, parts, outcome, sets, len(bad), start)
    if nameless:
        results["unlabelled"] = sum(map(len, rest.values()))
    sure = learn_certainty(model, sets, val, config.guard, config.seed)
    results["temperature"] = sure.temperature
    if test:  # the one look at the test split
        results |= measure(model, test, parts.classes, run.out, sure)
    model.cpu()
    results["seconds"] = time.monotonic() - started
    save_bundle(
        run.out / "model",
        model,
        labels=parts.classes,
        preprocess=configuration.to_dict(config.data.preprocess),
        made={"verb": "train", "versions": versions(), "results": _short(results)},
        certainty=sure,
    )
    sample_sheets(model, test or sets, run.out, config.seed)
    run.results(results)
    return results | {"report": str(write_report(run.out))}


def _results(
    run: Run,
    config: RunConfig,
    parts: Parts,
    outcome: Outcome,
    sets: dict[Kind, ClipSet],
    bad: int,
    start: Bundle | None,
) -> dict[str, Any]:
    target = config.loop.target_accuracy
    met = target is None or outcome.stopped_by == "target"
    return {
        "verb": "train",
        "accuracy": None,
        "stopped_by": outcome.stopped_by,
        "target": target,
        "exit_code": 0 if met and outcome.stopped_by != "diverged" else 3,
        "validation_accuracy": outcome.state.last,
        "steps": outcome.state.step,
        "train_seconds": outcome.state.seconds,
        "labels_used": sum(map(len, sets.values())) + len(parts.val),
        "validation_labels": len(parts.val),
        "unlabelled": len(parts.rest),
        "bad_files": bad,
        "guard": None,
        "base": None if start is None else str(start.path),
        "notes": list(parts.splits.notes),
        "model": str(run.out / "model"),
    }


def _short(results: dict[str, Any]) -> dict[str, Any]:
    names = ("accuracy", "accuracy_interval", "stopped_by", "target", "steps", "labels_used")
    return {name: results.get(name) for name in names}
