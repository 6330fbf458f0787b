"""Verbs that train: words come in, a run folder goes out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from discern.cli import answer, words
from discern.cli.options import (
    AllowChange,
    AsJson,
    Batch,
    Debug,
    Minutes,
    Out,
    Rate,
    Seed,
    Set,
    Size,
    Sources,
    Start,
    Steps,
    Strict,
)
from discern.cli.together import together


def demo(
    out: Out = Path("demo-out"),
    minutes: Minutes = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """See it all work: real data, no download, no GPU.

    Pre-trains one model on images and clips, tunes it, compares it, and writes a report.
    """
    words.positive(minutes, "--minutes")
    from discern.recipes.demo import run

    with answer.one_answer(as_json):
        result = run(out, minutes)
    then = answer.command("discern", "pretrain", "YOUR-FOLDER", "--out", "runs/pretrained")
    return answer.finish(result, as_json, then)


def pretrain(
    source: Sources,
    out: Out,
    base: Start = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe", metavar="R", help="objects, faces, vehicles, videos; mae, view or gan."
        ),
    ] = None,
    size: Size = None,
    minutes: Minutes = None,
    steps: Steps = None,
    seed: Seed = 0,
    setting: Set = None,
    strict: Strict = False,
    allow_change: AllowChange = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Learn from images and clips without labels.

    A Transformer generator and a Transformer discriminator play against each other; the
    encoder that comes out is where `train --from` starts.
    """
    specs = words.sources(source)
    words.positive(minutes, "--minutes")
    if base is not None:
        words.start(base)
    from discern.recipes.pretrain import pretrain as work

    with answer.one_answer(as_json), together(out) as folder:
        result = work(
            specs,
            folder,
            recipe=recipe,
            size=size,
            minutes=minutes,
            steps=steps,
            base=base,
            seed=seed,
            overrides=setting or [],
            strict=strict,
            allow_change=allow_change,
        )
    if size is None and base is None and not as_json and result["stopped_by"] == "minutes":
        from discern.recipes.fit import ENOUGH

        if result["steps"] < ENOUGH[True]:
            few = f"{result['steps']} steps are few for this encoder"
            print(f"{few}: --size auto picks what learns more in as many minutes")
    then = ("discern", "train", "LABELLED-FOLDER", "--from", out, "--out", f"{out}-tuned")
    return answer.finish(result, as_json, answer.command(*then))


def train(
    source: Sources,
    out: Out,
    base: Start = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", metavar="R", help="objects, faces, vehicles or videos."),
    ] = None,
    target: Annotated[
        float | None,
        typer.Option("--target-accuracy", metavar="A", help="Stop at this validation accuracy."),
    ] = None,
    minutes: Minutes = None,
    steps: Steps = None,
    patience: Annotated[
        int | None,
        typer.Option("--patience", metavar="N", min=1, help="Evaluations without progress."),
    ] = None,
    labels: Annotated[
        int | None,
        typer.Option("--labels", metavar="N", min=1, help="Use this many labels per class."),
    ] = None,
    unlabelled: Annotated[
        list[str] | None,
        typer.Option(
            "--unlabeled",
            metavar="SOURCE",
            help="Learn from these items too, without labels; may be repeated.",
        ),
    ] = None,
    harden: Annotated[
        str | None,
        typer.Option("--harden", metavar="NORM:EPS", help="Hold against changes: linf:8/255."),
    ] = None,
    size: Size = None,
    seed: Seed = 0,
    batch: Batch = None,
    rate: Rate = None,
    setting: Set = None,
    strict: Strict = False,
    allow_change: AllowChange = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Tune a classifier until a target accuracy.

    Exits 0 when the target is met (or none was set), 3 when time, steps or patience ended first.
    The same command on an unfinished run goes on where it stopped.
    """
    specs = words.sources(source)
    others = words.sources(unlabelled or [])
    words.share(target, "--target-accuracy")
    words.positive(minutes, "--minutes")
    words.positive(rate, "--rate")
    hardened = [] if harden is None else words.harden(harden)
    if base is not None:
        words.start(base)
    from discern.recipes.train import train as work

    with answer.one_answer(as_json), together(out) as folder:
        result = work(
            specs,
            folder,
            base=base,
            recipe=recipe,
            target_accuracy=target,
            minutes=minutes,
            steps=steps,
            patience=patience,
            labels=labels,
            unlabelled=others,
            size=size,
            seed=seed,
            batch=batch,
            rate=rate,
            overrides=[*hardened, *(setting or [])],
            strict=strict,
            allow_change=allow_change,
        )
    if base is None and not as_json:
        print("started from random weights: --from discern-nano starts from weights that ship")
    then = ("discern", "evaluate", out, *specs, "--out", f"{out}-evaluated")
    return answer.finish(result, as_json, answer.command(*then))
