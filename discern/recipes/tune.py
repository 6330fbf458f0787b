"""`discern tune`: a labelled source and a number of trials in, better settings out.

Each trial is one training with other settings, judged on the validation split (Optuna: Akiba et al.
2019; TPE: Bergstra et al. 2011; median pruning: Golovin et al. 2017).  The test split is read twice
at the end, for the defaults and for the settings that won.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from discern.errors import DiscernError, UsageError
from discern.log import Run
from discern.recipes.progress import progress_bar
from discern.recipes.train import train
from discern.report.page import write_report

MINUTES = 1.0  # of one trial
WHOLE = 30.0  # minutes of all trials
STUDY = "tune"
FRESH = 5  # trials that are drawn at random before any conclusion
KEPT = ("defaults", "best")


@dataclass(frozen=True, kw_only=True)
class Span:
    """What a number may be; `log` draws its order of magnitude evenly."""

    low: float
    high: float
    log: bool = False


# setting of `discern train` -> what is tried
SPACE: dict[str, Span | tuple[Any, ...]] = {
    "optim.rate": Span(low=3e-4, high=8e-3, log=True),
    "optim.weight_decay": Span(low=1e-3, high=0.3, log=True),
    "optim.layer_decay": Span(low=0.5, high=1.0),
    "backbone.drop_path": Span(low=0.0, high=0.3),
    "supervised.label_smoothing": Span(low=0.0, high=0.2),
    "supervised.mix_chance": Span(low=0.0, high=1.0),
    "supervised.freeze_encoder": Span(low=0.0, high=0.3),
    "strong.rotate": Span(low=0.0, high=20.0),
    "strong.brightness": Span(low=0.0, high=0.6),
    "strong.erase": Span(low=0.0, high=0.5),
    "data.loader.batch_size": (32, 64, 128, 256),
}


def tune(
    source: Sequence[str] | str,
    out: Path | str,
    *,
    trials: int,
    base: Path | str | None = None,
    labels: int | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    budget: float | None = None,
    seed: int = 0,
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Try settings, and say whether any beat the defaults.

    `minutes` (or `steps`) are those of one trial, `budget` is for all of them.  The first trial is
    the defaults.  A setting that `overrides` name stays as it is.  The same call on an unfinished
    run goes on after its last whole trial.  Raises as `train` does.
    """
    optuna = _optuna()
    specs = [source] if isinstance(source, str) else list(source)
    if trials < 2:
        raise UsageError(f"--trials {trials}: the first is the defaults, so it takes 2 at least")
    shared: dict[str, Any] = {"base": None if base is None else str(base)}
    shared |= {"labels": labels, "seed": seed}
    shared |= {"minutes": (minutes or MINUTES) if steps is None else minutes, "steps": steps}
    settings = {"source": specs, "overrides": list(overrides), "trials": trials, **shared}
    fixed = {one.partition("=")[0].strip() for one in overrides}
    space = {name: span for name, span in SPACE.items() if name not in fixed}
    with Run.open(Path(out), "tune", settings, may_change=("trials",)) as run:
        study = _study(optuna, run.out, seed)
        started, spent = time.monotonic(), _spent(study)
        limit = 60 * (budget if budget is not None else WHOLE)
        with progress_bar("tuning settings") as bar:
            while (done := len(_whole(study))) < trials:
                if done >= 2 and spent + time.monotonic() - started > limit:
                    break
                trial = study.ask()
                chosen: dict[str, Any] = {}
                if done:  # before there is any, the settings that `train` takes by itself
                    chosen = {name: _drawn(trial, name, span) for name, span in space.items()}
                _one(optuna, study, trial, chosen, run, specs, overrides, shared)
                bar((done + 1) / trials, f"trial {done + 1} of {trials}, {_said(study)}")
        results = _results(optuna, study, run, specs, shared, overrides)
        results["seconds"] = spent + time.monotonic() - started
        results["stopped_by"] = "trials" if results["trials"] >= trials else "minutes"
        run.results(results)
        return results | {"report": str(write_report(run.out))}


def _one(
    optuna: Any,
    study: Any,
    trial: Any,
    chosen: Mapping[str, Any],
    run: Run,
    specs: Sequence[str],
    overrides: Sequence[str],
    shared: Mapping[str, Any],
) -> None:
    """One training, told to the study; the folder of a trial that leads is kept."""
    folder = run.out / "trials" / f"{trial.number:04d}"
    shutil.rmtree(folder, ignore_errors=True)  # of a start that was killed
    started = time.monotonic()
    seen: list[float] = []

    def judge(accuracy: float) -> None:
        seen.append(accuracy)
        trial.report(accuracy, len(seen))
        # the defaults are what all others are held against
        if chosen and trial.should_prune():
            raise optuna.TrialPruned

    found: dict[str, Any] = {}
    state = optuna.trial.TrialState.COMPLETE
    try:
        words = [*overrides, *(f"{name}={json.dumps(value)}" for name, value in chosen.items())]
        found = train(specs, folder, overrides=words, on_evaluation=judge, test=False, **shared)
    except optuna.TrialPruned:
        state = optuna.trial.TrialState.PRUNED
    value = found.get("validation_accuracy")
    if state == optuna.trial.TrialState.COMPLETE and value is None:
        raise UsageError(
            f"{', '.join(specs)}: no validation split can be cut, without which no trial can be "
            "judged: give more labels"
        )
    trial.set_user_attr("seconds", round(time.monotonic() - started, 3))
    study.tell(trial, value, state=state)
    run.log(step=trial.number, accuracy=value, pruned=value is None, **dict(chosen))
    if study.best_trial.number != trial.number and chosen:
        shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def _results(
    optuna: Any,
    study: Any,
    run: Run,
    specs: Sequence[str],
    shared: Mapping[str, Any],
    overrides: Sequence[str],
) -> dict[str, Any]:
    """What the trials say; both finalists on the test split, once."""
    from discern.evaluate.evaluate import evaluate

    whole = _whole(study)
    first, best = whole[0], study.best_trial
    flags = [f"{name}={json.dumps(value)}" for name, value in best.params.items()]
    command = ["discern", "train", *specs]
    for flag, value in (("--from", shared["base"]), ("--labels", shared["labels"])):
        command += [] if value is None else [flag, str(value)]
    for flag in ("minutes", "steps"):
        command += [] if shared[flag] is None else [f"--{flag}", f"{shared[flag]:g}"]
    command += [word for one in (*overrides, *flags) for word in ("--set", one)]
    tested: dict[str, dict[str, Any]] = {}
    for name, trial in zip(KEPT, (first, best), strict=True):
        folder = run.out / "trials" / f"{trial.number:04d}"
        if name == "best" and trial.number == first.number:
            tested |= {"best": tested["defaults"]} if tested else {}
            break
        report = run.out / f"test-{name}"
        shutil.rmtree(report, ignore_errors=True)
        try:
            found = evaluate(folder, specs, report)
        except DiscernError as error:  # a source without a test split
            run.notes.append(str(error))
            continue
        tested[name] = {key: found[key] for key in ("accuracy", "accuracy_interval", "samples")}
    better = best.number != first.number and best.value > first.value
    return {
        "verb": "tune",
        "verdict": _verdict(better, first.value, best.value, tested),
        "trials": len(whole),
        "pruned": sum(one.value is None for one in whole),
        "validation_accuracy": best.value,
        "defaults_validation_accuracy": first.value,
        "beats_defaults": better,
        "settings": best.params,
        "tested": tested,
        "accuracy": tested.get("best", {}).get("accuracy"),
        "importance": _importance(optuna, study),
        "command": command,
        "model": str(run.out / "trials" / f"{best.number:04d}" / "model"),
        "exit_code": 0,
    }


def _verdict(
    better: bool, first: float, best: float, tested: Mapping[str, Mapping[str, Any]]
) -> str:
    """In one line, whether the search was worth its time."""
    if not better:
        return f"no trial beat the defaults ({first:.1%} on validation): keep them"
    said = f"{best:.1%} on validation against {first:.1%} with the defaults"
    if len(tested) == len(KEPT):
        scores = [tested[name]["accuracy"] for name in ("best", "defaults")]
        said += f"; on the test split {scores[0]:.1%} against {scores[1]:.1%}"
        if scores[0] <= scores[1]:
            said += ": not better there, so keep the defaults"
    return said


def _importance(optuna: Any, study: Any) -> dict[str, float]:
    """Share of the variance of the accuracies that each setting explains; {} for too few trials."""
    whole = [one for one in _whole(study) if one.params and one.value is not None]
    if len(whole) < 4 or len({one.value for one in whole}) < 2:
        return {}
    try:
        found = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
        )
    except (ValueError, RuntimeError):  # trials that have no setting in common
        return {}
    return {name: float(share) for name, share in found.items()}


def _drawn(trial: Any, name: str, span: Span | tuple[Any, ...]) -> Any:
    if isinstance(span, tuple):
        return trial.suggest_categorical(name, list(span))
    return float(f"{trial.suggest_float(name, span.low, span.high, log=span.log):.6g}")


def _study(optuna: Any, out: Path, seed: int) -> Any:
    """The study in `out`: new, or as an earlier start left it, without trials that it broke off."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    out.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(out / "study.jsonl")))
    known = [one.study_name for one in storage.get_all_studies()]
    trials = len(storage.get_all_trials(storage.get_study_id_from_name(STUDY))) if known else 0
    study = optuna.create_study(
        storage=storage,
        study_name=STUDY,
        direction="maximize",
        load_if_exists=True,
        # a resumed study must not draw again what it drew before
        sampler=optuna.samplers.TPESampler(seed=seed + trials, n_startup_trials=FRESH),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=FRESH, n_warmup_steps=5),
    )
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return study


def _spent(study: Any) -> float:
    return sum(float(trial.user_attrs.get("seconds", 0.0)) for trial in study.trials)


def _whole(study: Any) -> list[Any]:
    """Trials that ended or were pruned, the defaults first; not those that were broken off."""
    return [one for one in study.trials if one.state.name in ("COMPLETE", "PRUNED")]


def _said(study: Any) -> str:
    return f"best {study.best_value:.1%}, defaults {_whole(study)[0].value:.1%}"


def _optuna() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of features that we do not use
            import optuna
    except ImportError:
        raise UsageError("tune needs Optuna: pip install 'discern[tune]'") from None
    optuna.logging.set_verbosity(logging.ERROR)
    return optuna
