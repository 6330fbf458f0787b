"""Measure a model on labelled data.

A bundle and a source in; results.json, predictions.jsonl and a report out.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from discern.clip import Kind
from discern.data.badfiles import BadFiles
from discern.data.clipset import ClipSet, clip_sets, load_all
from discern.data.items import Source
from discern.data.limits import Limits
from discern.data.sources import open_source
from discern.data.splits import make_splits, read_splits
from discern.errors import DataError, UsageError
from discern.evaluate.calibration import reliability
from discern.evaluate.metrics import calibration_error, metrics
from discern.evaluate.pictures import picture_items, telling
from discern.evaluate.several import as_choices, several_metrics
from discern.evaluate.timing import seconds_per_item
from discern.evaluate.unknown import (
    Scored,
    guard_block,
    guard_seconds,
    joined,
    score,
    unknown_block,
    unknown_scores,
)
from discern.files import write_bytes
from discern.log import Run
from discern.models.model import Model
from discern.models.weights import Bundle
from discern.predict import (
    evidence,
    load,
    preprocessing,
    probabilities,
    require_classifier,
    require_views,
)
from discern.report.page import write_report
from discern.security.certainty import YES, Certainty, labels_of
from discern.security.scores import Evidence

BLOCK = {Kind.IMAGE: "images", Kind.CLIP: "clips"}
MEMORY = 4 * 2**30  # bytes of decoded items


def evaluate(
    model: Path | str,
    source: str | Sequence[str],
    out: Path | str,
    *,
    unknown: str | Sequence[str] = (),
    strict: bool = False,
    views: int = 1,
    merge: float | None = None,
) -> dict[str, Any]:
    """Measure a model on items that it was not trained on.

    Of the source it was trained on that is its test part; of another one its own test part, or all
    of it when it has no parts.  With sources of `unknown` items, which are of none of its classes,
    also how many of them its guard finds.  Answers are the mean of so many `views` (`data.views`).
    With `merge` the encoder merges this share of its tokens, whatever the model says.

    Writes results.json, predictions.jsonl, report.html into `out`.  Raises UsageError, DataError,
    IntegrityError.
    """
    started = time.monotonic()
    require_views(views)
    if merge is not None and not 0 <= merge < 1:
        raise UsageError(f"--merge {merge:g}: a share of the tokens, 0 to below 1")
    bundle = load(model)
    require_classifier(bundle)
    encoder = bundle.model.backbone
    if merge is not None:
        encoder.config = replace(encoder.config, merge=merge)
    specs = [source] if isinstance(source, str) else list(source)
    others = [unknown] if isinstance(unknown, str) else list(unknown)
    if others and not bundle.certainty.guards:
        raise UsageError(
            f"--unknown: {bundle.path} has no guard{_why_none(bundle)}: "
            "`discern train` with more items makes one"
        )
    data, chosen = _to_measure(bundle, specs)
    settings = {"model": str(model), "source": specs, "unknown": others, "strict": strict}
    settings |= {"views": views, "merge": merge}
    with Run.open(Path(out), "evaluate", settings) as run:
        bad = BadFiles(run.out / "bad_files.jsonl", strict=strict)
        sets = _loaded(bundle, data, chosen, bad)
        seen = sum(map(len, sets.values()))
        strange = _unknown_sets(bundle, others, bad, seen) if others else None
        results = measure(
            bundle.model, sets, bundle.labels, run.out, bundle.certainty, strange, views
        )
        results |= {"seconds": time.monotonic() - started, "stopped_by": None, "target": None}
        results |= {
            "bad_files": len(bad),
            "model": str(bundle.path),
            "verb": "evaluate",
            "views": views,
            "merge": encoder.config.merge,
        }
        run.results(results)
        results["report"] = str(write_report(run.out))
    return results


def measured_sets(bundle: Bundle, specs: Sequence[str], bad: BadFiles) -> dict[Kind, ClipSet]:
    """The items of sources that `evaluate` measures a model on.  Raises DataError."""
    data, chosen = _to_measure(bundle, specs)
    sets = {kind: one for kind, one in _loaded(bundle, data, chosen, bad).items() if len(one)}
    if not sets:
        raise DataError(
            f"{data.spec}: none of the items can be read: `discern data check` says why"
        )
    return sets


def _to_measure(bundle: Bundle, specs: Sequence[str]) -> tuple[Source, list[int]]:
    data = open_source(specs)
    new = sorted(set(data.classes) - set(bundle.labels))
    if new:
        raise DataError(
            f"{data.spec}: classes that the model does not know: {', '.join(new[:5])}; "
            f"it knows {', '.join(bundle.labels[:8])}"
        )
    chosen = _unseen(bundle.path.parent, specs, data)
    if not chosen:
        raise DataError(f"{data.spec}: no labels to measure with: give each class a folder")
    return data, chosen


def _loaded(
    bundle: Bundle, data: Source, chosen: Sequence[int], bad: BadFiles
) -> dict[Kind, ClipSet]:
    sets = clip_sets(
        data,
        chosen,
        preprocessing(bundle),
        classes=bundle.labels,
        limits=Limits(),
        several=bundle.certainty.several,
    )
    load_all(sets.values(), bad, MEMORY)
    return sets


def measure(
    model: Model,
    sets: Mapping[Kind, ClipSet],
    classes: Sequence[str],
    out: Path | None = None,
    sure: Certainty | None = None,
    unknown: Mapping[Kind, ClipSet] | None = None,
    views: int = 1,
) -> dict[str, Any]:
    """Metrics over all items, a block per kind where there are both; predictions go to `out`.

    `unknown` items are of no class: what the guard of `sure` makes of them is in the key `guard`.
    """
    sure = sure or Certainty()
    sets = {kind: one for kind, one in sets.items() if len(one)}
    if not sets:
        raise DataError(
            "none of the items to measure on can be read: `discern data check` says why"
        )
    seen = {
        kind: evidence(model, one, head=sure.asks_head, views=views) for kind, one in sets.items()
    }
    scored = {kind: score(sure, kind, seen[kind]) for kind in sets}
    results = _measures(list(sets.values()), list(seen.values()), classes, sure)
    results["guard"] = _guard_results(sure, scored)
    on_cpu = _on_cpu(model)
    for kind, one in sets.items():
        block = _measures([one], [seen[kind]], classes, sure) if len(sets) > 1 else {}
        cost = seconds_per_item(lambda few: probabilities(on_cpu, few), one)
        block["microseconds_per_item"] = 1e6 * views * cost
        guard = _guard_results(sure, {kind: scored[kind]})
        if guard is not None:
            guard["microseconds_per_item"] = 1e6 * guard_seconds(on_cpu, sure, one)
        if len(sets) > 1:
            results[BLOCK[kind]] = block | {"guard": guard}
        else:
            results |= block | {"guard": guard}
    known = joined(list(scored.values()))
    strange = unknown_scores(model, sure, unknown) if unknown and known else None
    if known is not None and strange is not None:
        stated = max(facts.get("false_alarms", 0.0) for facts in sure.facts.values())
        results["guard"]["unknown"] = unknown_block(known, strange, stated)
    if out is not None:
        found = {kind: sure.probabilities(seen[kind].logits.numpy()) for kind in sets}
        write_predictions(out, on_cpu, sets, found, classes, scored)
    return results


def _measures(
    sets: Sequence[ClipSet], seen: Sequence[Evidence], classes: Sequence[str], sure: Certainty
) -> dict[str, Any]:
    """Metrics of calibrated probabilities, and what calibration changed."""
    logits = np.concatenate([one.logits.numpy() for one in seen])
    before, after = (
        replace(sure, temperature=None).probabilities(logits),
        sure.probabilities(logits),
    )
    if sure.several:
        targets = np.concatenate([one.targets for one in sets])
        found = several_metrics(targets, after, classes)
        (labels, before), (_, after) = as_choices(targets, before), as_choices(targets, after)
    else:
        labels = np.concatenate([one.labels for one in sets])
        found = metrics(labels, after, classes)
    return found | {
        "temperature": sure.temperature,
        "ece_uncalibrated": calibration_error(labels, before),
        "reliability": {
            "before": reliability(labels, before),
            "after": reliability(labels, after),
        },
    }


def _guard_results(sure: Certainty, scored: Mapping[Kind, Scored | None]) -> dict[str, Any] | None:
    """The key `guard`: of one kind with how it was calibrated, of several the pooled shares."""
    known = joined(list(scored.values()))
    if known is None:
        return None
    kinds = [kind for kind, one in scored.items() if one is not None]
    if len(kinds) > 1:
        stated = {sure.facts[kind]["false_alarms"] for kind in kinds if kind in sure.guards}
        return guard_block(None, known) | {"false_alarms": max(stated)}
    facts = sure.facts[kinds[0]] if kinds[0] in sure.guards else None  # None: another kind's guard
    return guard_block(facts, known)


def _why_none(bundle: Bundle) -> str:
    reasons = sorted({str(facts["why"]) for facts in bundle.certainty.facts.values()})
    return f" ({'; '.join(reasons)})" if reasons else ""


def _unknown_sets(
    bundle: Bundle, specs: Sequence[str], bad: BadFiles, seen: int
) -> dict[Kind, ClipSet]:
    """All items of sources of which no item is of a class that the model knows."""
    data = open_source(specs)
    shared = sorted(set(data.classes) & set(bundle.labels))
    if shared:
        raise DataError(
            f"--unknown {data.spec}: the model knows {', '.join(shared[:5])}: leave these out"
        )
    every = range(len(data.items))
    sets = clip_sets(data, (), preprocessing(bundle), unlabelled=every, limits=Limits())
    load_all(sets.values(), bad, MEMORY, total=seen + len(data.items))
    sets = {kind: one for kind, one in sets.items() if len(one)}
    if not sets:
        raise DataError(f"--unknown {data.spec}: no item in it can be used")
    return sets


def accuracy(model: torch.nn.Module, sets: Mapping[Kind, ClipSet]) -> float:
    """Share of items, of all kinds, of which all is right that is said."""
    right = [_right(probabilities(model, one), one) for one in sets.values()]
    return float(np.concatenate(right).mean())


def _right(found: np.ndarray, items: ClipSet) -> np.ndarray:
    """[N, K] -> bool [N]"""
    if items.targets is None:
        return found.argmax(axis=1) == items.labels
    return ((found > YES) == items.targets).all(axis=1)


def _on_cpu(model: Model) -> Model:
    """The model, or its copy where it is on another device: times are those of one CPU thread."""
    if next(model.parameters()).device.type == "cpu":
        return model
    return copy.deepcopy(model).cpu()


def write_predictions(
    out: Path,
    model: Model,
    sets: Mapping[Kind, ClipSet],
    found: Mapping[Kind, np.ndarray],
    classes: Sequence[str],
    scored: Mapping[Kind, Scored | None],
) -> None:
    """One line per item in predictions.jsonl; the surest wrong and the least sure right ones get
    a picture.
    """
    rows = []
    for kind, items in sets.items():
        guard, said = scored[kind], found[kind]
        several = items.targets is not None
        sure = said.max(axis=1)
        if several:  # as sure as of the answer that it is least sure of
            sure = np.maximum(said, 1 - said).min(axis=1)
        chosen = telling(_right(said, items), sure, len(sets))
        pictures = picture_items(out, model, items, chosen, said.argmax(axis=1), several)
        rows += [
            {
                "key": items.key(i),
                "kind": str(kind),
                **_named(items, said[i], i, classes),
                "probability": round(float(sure[i]), 6),
                "thumbnail": pictures.get(i),
                "split": "test",
                **({} if guard is None else {"unknown": bool(guard.flagged[i])}),
            }
            for i in range(len(items))
        ]
    write_bytes(out / "predictions.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())


def _named(
    items: ClipSet, said: np.ndarray, position: int, classes: Sequence[str]
) -> dict[str, str]:
    """What an item is and what it was taken for; several names as a manifest has them."""
    if items.targets is None:
        return {
            "label": classes[items.labels[position]],
            "predicted": classes[int(said.argmax())],
        }
    true = items.targets[position]
    return {
        "label": ";".join(name for name, has in zip(classes, true, strict=True) if has),
        "predicted": ";".join(sorted(labels_of(said, classes))),
    }


def _unseen(run: Path, specs: Sequence[str], data: Source) -> list[int]:
    """The items to measure on: of the source that the model was trained on, only its test part.

    Of another source its own test part, or all of it when it has no parts.
    """
    labelled = [i for i, item in enumerate(data.items) if item.labels]
    trained_on = _sources_of(run)
    if trained_on == [str(Path(spec).absolute()) for spec in specs]:
        return list(read_splits(run / "splits.json", data.items).test)
    if not any(data.items[i].split for i in labelled):
        return labelled
    return list(make_splits(data.items, seed=0).test)


def _sources_of(run: Path) -> list[str] | None:
    """What a run folder says it was trained on; None where the model lies alone."""
    try:
        settings = json.loads((run / "config.json").read_text())["settings"]
        known = (run / "splits.json").exists()
        return [str(Path(spec).absolute()) for spec in settings["source"]] if known else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
